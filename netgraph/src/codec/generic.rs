//! The commands every node knows (cookie NGM_GENERIC_COOKIE; netgraph/ng_base.c:ng_generic_msg).

use super::{DecodeError, Payload, Reader, Writer, bare_requests, requests};
use crate::addr::NodeId;
use crate::name::{HookName, NodeName, TypeName};
use crate::sys;
use std::mem::size_of;

/// Makes a node of a type and connects it (`struct ngm_mkpeer`, 96 bytes; any other length is EINVAL).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MkPeer {
    /// The new node's type.
    pub node_type: TypeName,
    /// Hook of the node the message is sent to.
    pub ours: HookName,
    /// Hook of the new node.
    pub theirs: HookName,
}

impl Payload for MkPeer {
    fn write(&self, out: &mut Writer) {
        out.put(self.node_type.padded());
        out.put(self.ours.padded());
        out.put(self.theirs.padded());
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(MkPeer { node_type: type_name(from)?, ours: hook_name(from)?, theirs: hook_name(from)? })
    }
}

/// Connects two nodes (`struct ngm_connect`, 576 bytes).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// The other node, as seen from the one the message is sent to; at most 511 bytes.
    pub path: Vec<u8>,
    /// Hook of the node the message is sent to.
    pub ours: HookName,
    /// Hook of the other node.
    pub theirs: HookName,
}

impl Payload for Connect {
    fn write(&self, out: &mut Writer) {
        out.put_padded(&self.path, sys::NG_PATHSIZ as usize);
        out.put(self.ours.padded());
        out.put(self.theirs.padded());
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let path = from.padded(sys::NG_PATHSIZ as usize)?.to_vec();
        Ok(Connect { path, ours: hook_name(from)?, theirs: hook_name(from)? })
    }
}

/// Names a node, or renames it (`struct ngm_name`, 32 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// Its new name.
    pub name: NodeName,
}

impl Payload for Name {
    fn write(&self, out: &mut Writer) {
        out.put(self.name.padded());
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Name { name: node_name(from)? })
    }
}

/// Breaks a connection (`struct ngm_rmhook`, 32 bytes). No such hook is no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RmHook {
    /// Hook of the node the message is sent to.
    pub hook: HookName,
}

impl Payload for RmHook {
    fn write(&self, out: &mut Writer) {
        out.put(self.hook.padded());
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(RmHook { hook: hook_name(from)? })
    }
}

/// What netgraph says of a node (`struct nodeinfo`, 72 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeInfo {
    /// Its name; empty if it has none.
    pub name: NodeName,
    /// Its type.
    pub node_type: TypeName,
    /// Its id.
    pub id: NodeId,
    /// How many hooks it has.
    pub hooks: u32,
}

impl Payload for NodeInfo {
    fn write(&self, out: &mut Writer) {
        out.put(self.name.padded());
        out.put(self.node_type.padded());
        out.put_u32(self.id.0);
        out.put_u32(self.hooks);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(NodeInfo {
            name: node_name(from)?,
            node_type: type_name(from)?,
            id: NodeId(from.u32()?),
            hooks: from.u32()?,
        })
    }
}

/// One connection of a node (`struct linkinfo`, 136 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Hook of the node asked.
    pub ours: HookName,
    /// Hook at the other end.
    pub theirs: HookName,
    /// The node at the other end.
    pub peer: NodeInfo,
}

impl Payload for Link {
    fn write(&self, out: &mut Writer) {
        out.put(self.ours.padded());
        out.put(self.theirs.padded());
        self.peer.write(out);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Link { ours: hook_name(from)?, theirs: hook_name(from)?, peer: NodeInfo::read(from)? })
    }
}

/// A node and its connections (`struct hooklist`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookList {
    /// The node asked.
    pub node: NodeInfo,
    /// Its connections, in no order.
    pub links: Vec<Link>,
}

impl Payload for HookList {
    fn write(&self, out: &mut Writer) {
        self.node.write(out);
        self.links.iter().for_each(|link| link.write(out));
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let node = NodeInfo::read(from)?;
        // The kernel sizes the answer before it looks at each hook and may then skip one: the count rules, the rest is zero.
        let fit = from.left() / size_of::<sys::linkinfo>();
        if !from.left().is_multiple_of(size_of::<sys::linkinfo>()) || node.hooks as usize > fit {
            return Err(DecodeError::Count { said: u64::from(node.hooks), fit });
        }
        let links = (0..node.hooks).map(|_| Link::read(from)).collect::<Result<_, _>>()?;
        from.rest();
        Ok(HookList { node, links })
    }
}

/// Nodes (`struct namelist`): the named ones, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeList(pub Vec<NodeInfo>);

impl Payload for NodeList {
    fn write(&self, out: &mut Writer) {
        out.put_u32(self.0.len() as u32);
        self.0.iter().for_each(|node| node.write(out));
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // As above: a node that was going away leaves its place empty at the end.
        let said = from.u32()?;
        let fit = from.left() / size_of::<sys::nodeinfo>();
        if !from.left().is_multiple_of(size_of::<sys::nodeinfo>()) || said as usize > fit {
            return Err(DecodeError::Count { said: u64::from(said), fit });
        }
        let nodes = (0..said).map(|_| NodeInfo::read(from)).collect::<Result<_, _>>()?;
        from.rest();
        Ok(NodeList(nodes))
    }
}

/// A type of node (`struct typeinfo`, 36 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeInfo {
    /// Its name.
    pub name: TypeName,
    /// How many nodes there are of it.
    pub nodes: u32,
}

/// The types that are loaded (`struct typelist`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeList(pub Vec<TypeInfo>);

impl Payload for TypeList {
    fn write(&self, out: &mut Writer) {
        out.put_u32(self.0.len() as u32);
        for entry in &self.0 {
            out.put(entry.name.padded());
            out.put_u32(entry.nodes);
        }
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let said = u64::from(from.u32()?);
        let types = from.entries(said, size_of::<sys::typeinfo>(), |from| {
            Ok(TypeInfo { name: type_name(from)?, nodes: from.u32()? })
        })?;
        Ok(TypeList(types))
    }
}

/// A text a node says of itself, up to its NUL (at most NG_TEXTRESPONSE, 1024 bytes, by convention).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(pub String);

impl Payload for Text {
    fn write(&self, out: &mut Writer) {
        out.put(self.0.as_bytes());
        out.put_u8(0);
    }
    fn read(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bytes = from.rest();
        let text = bytes.split(|b| *b == 0).next().unwrap_or_default();
        Ok(Text(String::from_utf8_lossy(text).into_owned()))
    }
}

requests! {
    MkPeer NGM_GENERIC_COOKIE NGM_MKPEER "mkpeer" Effect -> (),
    Connect NGM_GENERIC_COOKIE NGM_CONNECT "connect" Effect -> (),
    Name NGM_GENERIC_COOKIE NGM_NAME "name" Effect -> (),
    RmHook NGM_GENERIC_COOKIE NGM_RMHOOK "rmhook" Effect -> (),
}

bare_requests! {
    /// Ends a node; persistent types (ether) only lose their hooks.
    Shutdown NGM_GENERIC_COOKIE NGM_SHUTDOWN "shutdown" Effect -> (),
    /// Asks a node for its name, type, id and number of hooks.
    GetNodeInfo NGM_GENERIC_COOKIE NGM_NODEINFO "nodeinfo" Query -> NodeInfo,
    /// Asks a node for its connections.
    ListHooks NGM_GENERIC_COOKIE NGM_LISTHOOKS "listhooks" Query -> HookList,
    /// Asks (any node) for all nodes that have a name.
    ListNames NGM_GENERIC_COOKIE NGM_LISTNAMES "listnames" Query -> NodeList,
    /// Asks (any node) for all nodes.
    ListNodes NGM_GENERIC_COOKIE NGM_LISTNODES "listnodes" Query -> NodeList,
    /// Asks (any node) for the types that are loaded.
    ListTypes NGM_GENERIC_COOKIE NGM_LISTTYPES "listtypes" Query -> TypeList,
    /// Asks a node for a text about itself; few types have one (EINVAL).
    TextStatus NGM_GENERIC_COOKIE NGM_TEXT_STATUS "textstatus" Query -> Text,
}

/// Takes a hook's name, 32 bytes.
pub(super) fn hook_name(from: &mut Reader<'_>) -> Result<HookName, DecodeError> {
    from.padded(sys::NG_HOOKSIZ as usize).map(HookName::from_wire)
}

fn node_name(from: &mut Reader<'_>) -> Result<NodeName, DecodeError> {
    from.padded(sys::NG_NODESIZ as usize).map(NodeName::from_wire)
}

fn type_name(from: &mut Reader<'_>) -> Result<TypeName, DecodeError> {
    from.padded(sys::NG_TYPESIZ as usize).map(TypeName::from_wire)
}
