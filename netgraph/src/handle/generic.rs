//! What every node can be asked.

use super::{Error, Handle};
use crate::addr::NodeRef;
use crate::codec::Request;
use crate::codec::generic::{
    Connect, GetNodeInfo, HookList, ListHooks, ListNames, ListNodes, ListTypes, MkPeer, Name, NodeInfo,
    RmHook, Shutdown, TextStatus, TypeInfo,
};
use crate::errno::Errno;
use crate::name::{HookName, NodeName, TypeName};
use crate::transport::Transport;

/// A node, to be asked or told something.
#[derive(Debug)]
pub struct Node<'h, 'n, T> {
    pub(super) handle: &'h Handle<T>,
    pub(super) node: NodeRef<'n>,
}

impl<T: Transport> Handle<T> {
    /// A node of any type.
    pub fn node<'n>(&self, node: impl Into<NodeRef<'n>>) -> Node<'_, 'n, T> {
        Node { handle: self, node: node.into() }
    }

    /// The socket's own node.
    pub fn own(&self) -> Result<NodeInfo, Error> {
        self.node(NodeRef::Own).info()
    }

    /// All nodes that have a name. 72 bytes of reply each.
    pub fn names(&self) -> Result<Vec<NodeInfo>, Error> {
        self.request(NodeRef::Own, &ListNames).map(|list| list.0)
    }

    /// All nodes. 72 bytes of reply each.
    pub fn nodes(&self) -> Result<Vec<NodeInfo>, Error> {
        self.request(NodeRef::Own, &ListNodes).map(|list| list.0)
    }

    /// The types that are loaded.
    pub fn types(&self) -> Result<Vec<TypeInfo>, Error> {
        self.request(NodeRef::Own, &ListTypes).map(|list| list.0)
    }
}

impl<T: Transport> Node<'_, '_, T> {
    pub(super) fn ask<R: Request>(&self, request: &R) -> Result<R::Reply, Error> {
        self.handle.request(self.node, request)
    }

    /// Makes a node of a type and connects this node's hook `ours` to its hook `theirs`.
    pub fn mkpeer(&self, node_type: &str, ours: &str, theirs: &str) -> Result<(), Error> {
        let node_type = TypeName::new(node_type)?;
        self.ask(&MkPeer { node_type, ours: HookName::new(ours)?, theirs: HookName::new(theirs)? })
    }

    /// Connects this node's hook `ours` to hook `theirs` of another node. That one's path is taken from this node, not from the
    /// socket: an id or a name is the same from everywhere.
    pub fn connect<'p>(&self, peer: impl Into<NodeRef<'p>>, ours: &str, theirs: &str) -> Result<(), Error> {
        let path = peer.into().to_string().into_bytes();
        if path.len() >= crate::sys::NG_PATHSIZ as usize {
            return Err(Error::Address { node: String::from_utf8_lossy(&path).into_owned() });
        }
        self.ask(&Connect { path, ours: HookName::new(ours)?, theirs: HookName::new(theirs)? })
    }

    /// Names the node, or renames it. EADDRINUSE if another has the name.
    pub fn set_name(&self, name: &str) -> Result<(), Error> {
        self.ask(&Name { name: NodeName::new(name)? })
    }

    /// Breaks the connection of a hook. A hook that is not there is no error.
    pub fn rmhook(&self, hook: &str) -> Result<(), Error> {
        self.ask(&RmHook { hook: HookName::new(hook)? })
    }

    /// Ends the node; one of type ether stays, without hooks.
    pub fn shutdown(&self) -> Result<(), Error> {
        self.ask(&Shutdown)
    }

    /// Its name, type, id and number of hooks.
    pub fn info(&self) -> Result<NodeInfo, Error> {
        self.ask(&GetNodeInfo)
    }

    /// Its connections. 136 bytes of reply each.
    pub fn hooks(&self) -> Result<HookList, Error> {
        self.ask(&ListHooks)
    }

    /// What it says of itself; EINVAL from most types.
    pub fn text_status(&self) -> Result<String, Error> {
        self.ask(&TextStatus).map(|text| text.0)
    }

    /// The node at the other end of a hook. By path where that fits an address (then the reply is 72 bytes, however many hooks
    /// there are), else from the list of hooks.
    pub fn peer(&self, hook: &str) -> Result<NodeInfo, Error> {
        let hook = HookName::new(hook)?;
        let path = match self.node {
            NodeRef::Own => hook.to_string(),
            NodeRef::Path(_) if !self.node.to_string().ends_with(':') => format!("{}.{hook}", self.node),
            _ => format!("{}{hook}", self.node),
        };
        if path.len() <= crate::addr::PATH_MAX {
            return self.handle.request(NodeRef::Path(&path), &GetNodeInfo);
        }
        let hooks = self.hooks()?;
        let none = Error::Refused { node: path, operation: "nodeinfo", errno: Errno::ENOENT };
        hooks.links.iter().find(|link| link.ours == hook).map(|link| link.peer).ok_or(none)
    }

    /// Whether a hook is there, and so connected. An error if the node is not.
    pub fn is_connected(&self, hook: &str) -> Result<bool, Error> {
        match self.peer(hook) {
            Ok(_) => Ok(true),
            Err(e) if e.errno() == Some(Errno::ENOENT) => self.info().map(|_| false),
            Err(e) => Err(e),
        }
    }
}

/// A list of hooks, by name.
impl HookList {
    /// The node at the other end of a hook.
    pub fn peer(&self, hook: &str) -> Option<&NodeInfo> {
        self.links.iter().find(|link| link.ours == hook).map(|link| &link.peer)
    }
}
