//! ng_bpf(4): a filter program per hook, and where to send what matches and what does not (netgraph/ng_bpf.c).

use super::bridge::counters;
use super::generic::hook_name;
use super::{DecodeError, Payload, Reader, Writer, requests};
use crate::bpf::{Insn, Program};
use crate::name::HookName;
use crate::sys;
use std::mem::size_of;

/// The program of one hook (`struct ng_bpf_hookprog`, 100 bytes, then 8 for each instruction).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookProgram {
    /// The hook it filters; it must exist (ENOENT).
    pub hook: HookName,
    /// Where a frame goes if the program returns more than zero; it is cut to that length. Empty: dropped.
    pub if_match: HookName,
    /// Where it goes otherwise. Empty: dropped.
    pub if_not_match: HookName,
    /// The program. One that does not validate is EINVAL.
    pub program: Program,
}

impl Payload for HookProgram {
    fn write(&self, out: &mut Writer) {
        out.put(self.hook.padded());
        out.put(self.if_match.padded());
        out.put(self.if_not_match.padded());
        out.put_i32(self.program.0.len() as i32);
        for insn in &self.program.0 {
            out.put_u16(insn.code);
            out.put_u8(insn.jt);
            out.put_u8(insn.jf);
            out.put_u32(insn.k);
        }
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (hook, if_match, if_not_match) = (hook_name(from)?, hook_name(from)?, hook_name(from)?);
        let said = from.i32()?;
        let said = u64::try_from(said)
            .map_err(|_| DecodeError::Value(said as u32 as u64, "number of instructions"))?;
        let insns = from.entries(said, size_of::<sys::bpf_insn>(), |from| {
            Ok(Insn { code: from.u16()?, jt: from.u8()?, jf: from.u8()?, k: from.u32()? })
        })?;
        Ok(HookProgram { hook, if_match, if_not_match, program: Program(insns) })
    }
}

counters! {
    /// Counters of one hook (`struct ng_bpf_hookstat`, 6 × u64).
    HookStats {
        /// Frames that came in by the hook.
        recv_frames,
        /// Their bytes.
        recv_octets,
        /// Those that matched.
        recv_match_frames,
        /// Their bytes, before they were cut.
        recv_match_octets,
        /// Frames sent out by the hook.
        xmit_frames,
        /// Their bytes.
        xmit_octets,
    }
}

/// Declares the commands that name a hook.
macro_rules! hook_requests {
    ($($(#[$doc:meta])* $name:ident $command:ident $text:literal $kind:ident -> $reply:ty),*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub HookName);
        impl Payload for $name {
            fn write(&self, out: &mut Writer) {
                out.put(self.0.padded());
            }
            fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
                // Any length will do for the kernel, down to a single NUL (ng_bpf.c terminates the last byte itself).
                match from.rest() {
                    [] => Err(DecodeError::Short { need: 1, have: 0 }),
                    [name @ .., _] => Ok(Self(HookName::from_wire(name))),
                }
            }
        }
        requests!($name NGM_BPF_COOKIE $command $text $kind -> $reply);
    )* };
}

hook_requests! {
    /// Asks for the program of a hook.
    GetProgram NGM_BPF_GET_PROGRAM "getprogram" Query -> HookProgram,
    /// Asks for the counters of a hook.
    GetStats NGM_BPF_GET_STATS "getstats" Query -> HookStats,
    /// Sets them to zero.
    ClearStats NGM_BPF_CLR_STATS "clrstats" Effect -> (),
    /// Both at once.
    GetClearStats NGM_BPF_GETCLR_STATS "getclrstats" Exchange -> HookStats
}

requests! {
    HookProgram NGM_BPF_COOKIE NGM_BPF_SET_PROGRAM "setprogram" Effect -> (),
}
