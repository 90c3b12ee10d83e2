//! ng_bpf(4): a program per hook (netgraph/ng_bpf.c).

use super::state::{HookData, HookIndex, Slot, State};
use super::walk::{Item, Walk};
use crate::bpf::Program;
use crate::codec::bpf::{ClearStats, GetClearStats, GetProgram, GetStats, HookProgram, HookStats};
use crate::codec::{Message, Payload};
use crate::errno::Errno;
use crate::guard;
use crate::name::HookName;
use crate::sys;

/// What the node keeps of a hook.
pub(super) struct Filter {
    pub program: Program,
    pub if_match: HookName,
    pub if_not_match: HookName,
    matched: Option<HookIndex>,
    not_matched: Option<HookIndex>,
    pub stats: HookStats,
}

impl Default for Filter {
    /// A new hook drops everything.
    fn default() -> Filter {
        let none = HookName::from_wire(b"");
        Filter {
            program: guard::closed(),
            if_match: none,
            if_not_match: none,
            matched: None,
            not_matched: None,
            stats: HookStats::default(),
        }
    }
}

impl State {
    fn filter(&mut self, slot: Slot, hook: &HookName) -> Result<&mut Filter, Errno> {
        let index = self.find_hook(slot, hook).ok_or(Errno::ENOENT)?;
        match self.hooks.get_mut(index).map(|hook| &mut hook.data) {
            Some(HookData::Filter(filter)) => Ok(filter),
            _ => Err(Errno::ENOENT),
        }
    }

    /// Lets all programs of the node that name this hook point to it, or to nothing (ng_bpf_addrefs, ng_bpf_remrefs).
    pub fn refer_to(&mut self, slot: Slot, name: &HookName, hook: Option<HookIndex>) {
        let Some(node) = self.nodes.get(slot) else { return };
        for index in node.hooks.values() {
            if let Some(HookData::Filter(filter)) = self.hooks.get_mut(*index).map(|hook| &mut hook.data) {
                if filter.if_match == *name {
                    filter.matched = hook;
                }
                if filter.if_not_match == *name {
                    filter.not_matched = hook;
                }
            }
        }
    }

    /// ng_bpf_rcvmsg: the reply's payload, if there is one.
    pub fn bpf_message(&mut self, slot: Slot, message: &Message<'_>) -> Result<Option<Vec<u8>>, Errno> {
        let invalid = |_| Errno::EINVAL;
        let data = message.data;
        match message.header.command {
            sys::NGM_BPF_SET_PROGRAM => {
                let new = HookProgram::from_bytes(data).map_err(invalid)?;
                self.filter(slot, &new.hook)?;
                new.program.validate().map_err(|_| Errno::EINVAL)?;
                let (matched, not_matched) =
                    (self.find_hook(slot, &new.if_match), self.find_hook(slot, &new.if_not_match));
                let filter = self.filter(slot, &new.hook)?;
                (filter.matched, filter.not_matched) = (matched, not_matched);
                (filter.if_match, filter.if_not_match) = (new.if_match, new.if_not_match);
                filter.program = new.program;
                Ok(None)
            }
            sys::NGM_BPF_GET_PROGRAM => {
                let hook = GetProgram::from_bytes(data).map_err(invalid)?.0;
                let filter = self.filter(slot, &hook)?;
                let (if_match, if_not_match) = (filter.if_match, filter.if_not_match);
                let reply = HookProgram { hook, if_match, if_not_match, program: filter.program.clone() };
                Ok(Some(reply.to_bytes()))
            }
            sys::NGM_BPF_GET_STATS => {
                let hook = GetStats::from_bytes(data).map_err(invalid)?.0;
                Ok(Some(self.filter(slot, &hook)?.stats.to_bytes()))
            }
            sys::NGM_BPF_CLR_STATS => {
                let hook = ClearStats::from_bytes(data).map_err(invalid)?.0;
                self.filter(slot, &hook)?.stats = HookStats::default();
                Ok(None)
            }
            sys::NGM_BPF_GETCLR_STATS => {
                let hook = GetClearStats::from_bytes(data).map_err(invalid)?.0;
                Ok(Some(std::mem::take(&mut self.filter(slot, &hook)?.stats).to_bytes()))
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// ng_bpf_rcvdata: a frame came in by a hook.
    pub fn bpf_frame(&mut self, walk: &mut Walk<'_>, mut item: Item) {
        let frame = walk.bytes(item);
        let Some(HookData::Filter(filter)) = self.hooks.get_mut(item.hook).map(|hook| &mut hook.data) else {
            return;
        };
        let octets = frame.len() as u64;
        filter.stats.recv_frames += 1;
        filter.stats.recv_octets += octets;
        // Nothing is not shown to the program: it does not match.
        let keep = if frame.is_empty() { 0 } else { filter.program.run(frame) };
        let to = if keep > 0 {
            filter.stats.recv_match_frames += 1;
            filter.stats.recv_match_octets += octets;
            item.len = item.len.min(keep);
            filter.matched
        } else {
            filter.not_matched
        };
        let Some(to) = to else { return };
        let Some(hook) = self.hooks.get_mut(to) else { return };
        if let HookData::Filter(filter) = &mut hook.data {
            filter.stats.xmit_frames += 1;
            filter.stats.xmit_octets += u64::from(item.len);
        }
        walk.push(item, hook.peer);
    }
}
