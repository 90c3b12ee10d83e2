//! The commands every node knows (ng_base.c:ng_generic_msg).

use super::bridge::Bridge;
use super::control::Outside;
use super::eiface::Eiface;
use super::state::{HookIndex, Kind, Slot, State, TYPES};
use crate::codec::generic::{
    Connect, HookList, Link, MkPeer, Name, NodeInfo, NodeList, RmHook, TypeInfo, TypeList,
};
use crate::codec::{Message, Payload};
use crate::errno::Errno;
use crate::name::TypeName;
use crate::sys;

impl State {
    /// The reply's payload, if there is one. `last` is the hook the message came in by.
    pub fn generic_message(
        &mut self,
        slot: Slot,
        message: &Message<'_>,
        last: Option<HookIndex>,
        outside: Outside,
    ) -> Result<Option<Vec<u8>>, Errno> {
        let invalid = |_| Errno::EINVAL;
        let data = message.data;
        match message.header.command {
            sys::NGM_SHUTDOWN => {
                self.remove_node(slot, false);
                Ok(None)
            }
            sys::NGM_MKPEER => {
                self.mkpeer(slot, &MkPeer::from_bytes(data).map_err(invalid)?, outside).map(|()| None)
            }
            sys::NGM_CONNECT => {
                let connect = Connect::from_bytes(data).map_err(invalid)?;
                let (peer, _) = self.resolve(slot, &connect.path)?;
                self.connect(slot, connect.ours, peer, connect.theirs).map(|()| None)
            }
            sys::NGM_NAME => {
                self.name_node(slot, Name::from_bytes(data).map_err(invalid)?.name).map(|()| None)
            }
            sys::NGM_RMHOOK => {
                // No such hook is no error.
                if let Some(hook) = self.find_hook(slot, &RmHook::from_bytes(data).map_err(invalid)?.hook) {
                    self.remove_hook(hook);
                }
                Ok(None)
            }
            sys::NGM_NODEINFO => Ok(Some(self.info(slot)?.to_bytes())),
            sys::NGM_LISTHOOKS => Ok(Some(self.list_hooks(slot)?.to_bytes())),
            sys::NGM_LISTNAMES => Ok(Some(self.list_nodes(|node| !node.name.is_empty()).to_bytes())),
            sys::NGM_LISTNODES => Ok(Some(self.list_nodes(|_| true).to_bytes())),
            sys::NGM_LISTTYPES => Ok(Some(self.list_types().to_bytes())),
            sys::NGM_BINARY2ASCII | sys::NGM_ASCII2BINARY => Err(Errno::ENOSYS),
            // Handed down to the type, none of which knows it but the socket, which takes anything.
            sys::NGM_TEXT_STATUS | sys::NGM_TEXT_CONFIG => self.type_message(slot, message, last, outside),
            _ => Err(Errno::EINVAL),
        }
    }

    /// ng_mkpeer: makes the node, then the hooks; what refuses takes the node away again.
    fn mkpeer(&mut self, slot: Slot, request: &MkPeer, outside: Outside) -> Result<(), Errno> {
        let (ours, theirs) = (request.ours, request.theirs);
        let (kind, unit) = match request.node_type.as_bytes() {
            b"bridge" => (Kind::Bridge(Bridge::new()), None),
            b"hub" => (Kind::Hub { persistent: false }, None),
            b"bpf" => (Kind::Bpf, None),
            b"eiface" => match outside {
                Outside::Created { unit, port } => {
                    let eiface = Eiface { unit, port, ether: None, child_vnet: false };
                    (Kind::Eiface(eiface), Some(unit))
                }
                // No interface was made, because one of the hooks will not be had: which one says why.
                _ => {
                    let hook = self.add_hook(slot, ours, None)?;
                    self.remove_hook(hook);
                    return Err(Errno::EPFNOSUPPORT);
                }
            },
            // Their constructors refuse: a socket comes from socket(2), an ether from its interface.
            b"socket" | b"ether" => return Err(Errno::EINVAL),
            // What loading ng_<type>.ko says, when there is no such file. (ENXIO is for a module that brings no such type.)
            _ => return Err(Errno::ENOENT),
        };
        let peer = self.add_node(kind);
        if let Some(unit) = unit {
            // If the name is taken, the node has none (the kernel only logs it).
            let name = crate::NodeName::from_wire(format!("ngeth{unit}").as_bytes());
            let _ = self.name_node(peer, name);
        }
        let outcome = self.connect(slot, ours, peer, theirs);
        if outcome.is_err() {
            self.remove_node(peer, true);
        } else if unit.is_some() {
            self.created = self.nodes.get(peer).map(|node| node.id);
        }
        outcome
    }

    fn list_hooks(&self, slot: Slot) -> Result<HookList, Errno> {
        let node = self.nodes.get(slot).ok_or(Errno::ENOENT)?;
        let link = |index: &HookIndex| {
            let hook = self.hooks.get(*index)?;
            let peer = self.hooks.get(hook.peer)?;
            Some(Link { ours: hook.name, theirs: peer.name, peer: self.info(peer.node).ok()? })
        };
        // The newest first, as the kernel's list has them.
        Ok(HookList { node: self.info(slot)?, links: node.hooks.values().rev().filter_map(link).collect() })
    }

    fn list_nodes(&self, wanted: impl Fn(&super::state::Node) -> bool) -> NodeList {
        let listed = |(slot, node)| if wanted(node) { self.info(slot).ok() } else { None };
        let mut nodes: Vec<NodeInfo> = self.nodes.iter().filter_map(listed).collect();
        nodes.sort_by_key(|node| node.id);
        NodeList(nodes)
    }

    fn list_types(&self) -> TypeList {
        let count =
            |name: &str| self.nodes.iter().filter(|(_, node)| node.kind.type_name() == name).count() as u32;
        let entry = |name: &&str| TypeInfo { name: TypeName::from_wire(name.as_bytes()), nodes: count(name) };
        TypeList(TYPES.iter().map(entry).collect())
    }
}
