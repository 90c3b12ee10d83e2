//! A control message on its way: from a socket, by its address, to a node, and the reply back (ng_socket.c:ngc_send).

use super::eiface::link_address;
use super::port::Port;
use super::socket::SPACE;
use super::state::{Effect, HookIndex, Kind, Slot, State};
use crate::addr::{Mac, NodeId, SockaddrNg};
use crate::codec::eiface::{IfName, SetMac};
use crate::codec::ether::{Address, Number, SetAutoSrc, SetPromisc};
use crate::codec::generic::MkPeer;
use crate::codec::{HEADER_LEN, Message, Payload};
use crate::errno::Errno;
use crate::sys;
use std::io;
use std::sync::Arc;

/// What a message needs of an interface, to be done without the graph's lock.
pub(super) enum Need {
    Nothing,
    /// A new interface, whose unit number is taken.
    Create(u16),
    Name(Arc<dyn Port>),
    Addresses(Arc<dyn Port>),
    SetMac(Arc<dyn Port>, Mac),
}

/// What came of that.
pub(super) enum Outside {
    Nothing,
    Created { unit: u16, port: Arc<dyn Port> },
    Name(String),
    Addresses(String, Mac),
}

/// The error of an interface as the kernel's.
pub(super) fn errno_of(error: &io::Error) -> Errno {
    Errno::from_io(error).unwrap_or(Errno::EIO)
}

impl Need {
    /// Does it.
    pub fn meet(self, factory: &dyn super::port::PortFactory) -> Result<Outside, Errno> {
        let outcome = match self {
            Need::Nothing => Ok(Outside::Nothing),
            Need::Create(unit) => {
                factory.create(unit).map(|port| Outside::Created { unit, port: Arc::from(port) })
            }
            Need::Name(port) => port.name().map(Outside::Name),
            Need::Addresses(port) => {
                port.name().and_then(|name| port.mac().map(|mac| Outside::Addresses(name, mac)))
            }
            Need::SetMac(port, mac) => port.set_mac(mac).map(|()| Outside::Nothing),
        };
        outcome.map_err(|e| errno_of(&e))
    }
}

/// What ngc_send checks before it looks for the node.
pub(super) fn parse(message: &[u8]) -> Result<Message<'_>, Errno> {
    if message.len() > SPACE {
        return Err(Errno::EMSGSIZE);
    }
    if message.len() < HEADER_LEN {
        return Err(Errno::EINVAL);
    }
    Message::parse(message).map_err(|_| Errno::EINVAL)
}

impl State {
    /// Where a socket's message goes.
    pub fn address(&self, sender: NodeId, to: &SockaddrNg) -> Result<(Slot, Option<HookIndex>), Errno> {
        // The socket of a node that has been shut down cannot send any more.
        let here = *self.ids.get(&sender).ok_or(Errno::EPIPE)?;
        self.resolve(here, to.text())
    }

    /// Looks whether a message will need an interface. A unit number it takes has to be used or given back.
    pub fn need(&mut self, slot: Slot, message: &Message<'_>) -> Result<Need, Errno> {
        let Some(node) = self.nodes.get(slot) else { return Ok(Need::Nothing) };
        let header = &message.header;
        match (&node.kind, header.cookie, header.command) {
            _ if header.is_response() => Ok(Need::Nothing),
            (_, sys::NGM_GENERIC_COOKIE, sys::NGM_MKPEER) => match MkPeer::from_bytes(message.data) {
                Ok(request)
                    if request.node_type == "eiface"
                        && request.theirs == crate::codec::eiface::HOOK
                        && !node.hooks.contains_key(&request.ours) =>
                {
                    self.units.take().map(Need::Create)
                }
                _ => Ok(Need::Nothing),
            },
            (Kind::Eiface(eiface), sys::NGM_EIFACE_COOKIE, command) => Ok(match command {
                sys::NGM_EIFACE_GET_IFNAME => Need::Name(eiface.port.clone()),
                sys::NGM_EIFACE_GET_IFADDRS => Need::Addresses(eiface.port.clone()),
                sys::NGM_EIFACE_SET => match SetMac::from_bytes(message.data) {
                    Ok(SetMac(mac)) => Need::SetMac(eiface.port.clone(), mac),
                    Err(_) => Need::Nothing,
                },
                _ => Need::Nothing,
            }),
            (Kind::Ether(ether), sys::NGM_ETHER_COOKIE, sys::NGM_ETHER_SET_ENADDR) => {
                Ok(match SetMac::from_bytes(message.data) {
                    Ok(SetMac(mac)) => Need::SetMac(ether.wire.clone(), mac),
                    Err(_) => Need::Nothing,
                })
            }
            _ => Ok(Need::Nothing),
        }
    }

    /// Applies a message to its node, and queues the reply to the sender's socket (NG_RESPOND_MSG).
    pub fn apply(
        &mut self,
        sender: NodeId,
        to: (Slot, Option<HookIndex>),
        message: &Message<'_>,
        outside: Outside,
    ) -> Result<(), Errno> {
        let (slot, last) = to;
        let from = self.nodes.get(slot).map(|node| node.id).ok_or(Errno::ENOENT)?;
        let header = &message.header;
        let generic = header.cookie == sys::NGM_GENERIC_COOKIE && !header.is_response();
        // What is not for the socket node itself is for the program that holds it.
        let is_socket = matches!(self.nodes.get(slot).map(|node| &node.kind), Some(Kind::Socket(_)));
        let text = matches!(header.command, sys::NGM_TEXT_STATUS | sys::NGM_TEXT_CONFIG);
        if is_socket && (!generic || text) && header.cookie != sys::NGM_SOCKET_COOKIE {
            return self.pass_up(slot, sender, whole(message));
        }
        let reply = if generic {
            self.generic_message(slot, message, last, outside)?
        } else {
            self.type_message(slot, message, last, outside)?
        };
        if let (Some(payload), Some(back)) = (reply, self.ids.get(&sender).copied()) {
            // The sender waits for the reply's delivery too, and gets its error: ng_snd_item holds the callback of the request until
            // the item is done with, and NG_RESPOND_MSG sends the reply in the same item. (Seen on 13.2.)
            return self.pass_up(back, from, message.reply(&payload));
        }
        Ok(())
    }

    /// Queues a message to the program that holds a socket node (ngs_rcvmsg).
    fn pass_up(&mut self, slot: Slot, from: NodeId, message: Vec<u8>) -> Result<(), Errno> {
        let Some(Kind::Socket(socket)) = self.nodes.get(slot).map(|node| &node.kind) else {
            return Err(Errno::EINVAL);
        };
        let fits = socket.control.push(from, message);
        self.effects.push(Effect::Notify(socket.control.clone()));
        if fits { Ok(()) } else { Err(Errno::ENOBUFS) }
    }

    /// What a type does with a message: the reply's payload, if there is one.
    pub fn type_message(
        &mut self,
        slot: Slot,
        message: &Message<'_>,
        last: Option<HookIndex>,
        outside: Outside,
    ) -> Result<Option<Vec<u8>>, Errno> {
        let (cookie, command) = (message.header.cookie, message.header.command);
        let node = self.nodes.get_mut(slot).ok_or(Errno::ENOENT)?;
        match &mut node.kind {
            Kind::Bridge(_) if cookie == sys::NGM_BRIDGE_COOKIE => self.bridge_message(slot, message, last),
            Kind::Bpf if cookie == sys::NGM_BPF_COOKIE => self.bpf_message(slot, message),
            Kind::Hub { persistent } if cookie == sys::NGM_HUB_COOKIE => match command {
                sys::NGM_HUB_SET_PERSISTENT => {
                    *persistent = true;
                    Ok(None)
                }
                _ => Err(Errno::EINVAL),
            },
            Kind::Socket(socket) if cookie == sys::NGM_SOCKET_COOKIE => match command {
                sys::NGM_SOCK_CMD_NOLINGER => {
                    socket.no_linger = true;
                    Ok(None)
                }
                sys::NGM_SOCK_CMD_LINGER => {
                    socket.no_linger = false;
                    Ok(None)
                }
                _ => Err(Errno::EINVAL),
            },
            Kind::Eiface(eiface) if cookie == sys::NGM_EIFACE_COOKIE => match (command, outside) {
                (sys::NGM_EIFACE_GET_IFNAME, Outside::Name(name)) => Ok(Some(IfName(name).to_bytes())),
                (sys::NGM_EIFACE_GET_IFADDRS, Outside::Addresses(name, mac)) => {
                    Ok(Some(link_address(&name, mac).to_bytes()))
                }
                // Done outside, if the argument was an address.
                (sys::NGM_EIFACE_SET, _) if SetMac::from_bytes(message.data).is_ok() => {
                    let _ = eiface;
                    Ok(None)
                }
                _ => Err(Errno::EINVAL),
            },
            Kind::Eiface(eiface) if cookie == sys::NGM_FLOW_COOKIE => {
                // Any other flow message is taken and means nothing.
                match command {
                    sys::NGM_LINK_IS_UP => self.effects.push(Effect::Carrier(eiface.port.clone(), true)),
                    sys::NGM_LINK_IS_DOWN => self.effects.push(Effect::Carrier(eiface.port.clone(), false)),
                    _ => {}
                }
                Ok(None)
            }
            Kind::Ether(_) if cookie == sys::NGM_ETHER_COOKIE => self.ether_message(slot, message),
            _ => Err(Errno::EINVAL),
        }
    }

    /// ng_ether_rcvmsg.
    fn ether_message(&mut self, slot: Slot, message: &Message<'_>) -> Result<Option<Vec<u8>>, Errno> {
        let invalid = |_| Errno::EINVAL;
        let data = message.data;
        let Some(Kind::Ether(ether)) = self.nodes.get_mut(slot).map(|node| &mut node.kind) else {
            return Err(Errno::EINVAL);
        };
        let number = |flag: bool| Ok(Some(Number(flag.into()).to_bytes()));
        match message.header.command {
            sys::NGM_ETHER_GET_IFNAME => Ok(Some(IfName(ether.ifname.clone()).to_bytes())),
            sys::NGM_ETHER_GET_IFINDEX => Ok(Some(Number(ether.ifindex).to_bytes())),
            sys::NGM_ETHER_GET_ENADDR => Ok(Some(Address(ether.mac).to_bytes())),
            sys::NGM_ETHER_GET_PROMISC => number(ether.promisc),
            sys::NGM_ETHER_GET_AUTOSRC => number(ether.autosrc),
            sys::NGM_ETHER_SET_ENADDR => {
                ether.mac = SetMac::from_bytes(data).map_err(invalid)?.0;
                Ok(None)
            }
            sys::NGM_ETHER_SET_PROMISC => {
                ether.promisc = SetPromisc::from_bytes(data).map_err(invalid)?.0;
                Ok(None)
            }
            sys::NGM_ETHER_SET_AUTOSRC => {
                ether.autosrc = SetAutoSrc::from_bytes(data).map_err(invalid)?.0;
                Ok(None)
            }
            sys::NGM_ETHER_ADD_MULTI => {
                let group = SetMac::from_bytes(data).map_err(invalid)?.0;
                if !group.is_multicast() {
                    return Err(Errno::EADDRNOTAVAIL);
                }
                if ether.groups.insert(group) { Ok(None) } else { Err(Errno::EADDRINUSE) }
            }
            sys::NGM_ETHER_DEL_MULTI => {
                let group = SetMac::from_bytes(data).map_err(invalid)?.0;
                if ether.groups.remove(&group) { Ok(None) } else { Err(Errno::ENOENT) }
            }
            sys::NGM_ETHER_DETACH => {
                self.remove_node(slot, true);
                Ok(None)
            }
            _ => Err(Errno::EINVAL),
        }
    }
}

/// A message as it was sent.
fn whole(message: &Message<'_>) -> Vec<u8> {
    let mut bytes = message.header.to_bytes();
    bytes.extend_from_slice(message.data);
    bytes
}
