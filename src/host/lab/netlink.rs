//! Interfaces, addresses and routes of one network namespace, by rtnetlink(7), blocking.
//!
//! A socket belongs for good to the namespace of the thread that opened it; [`in_namespace`] is how to get one for a jail.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::super::Mac;
use super::sys;

/// An interface that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in the namespace.
    pub index: u32,
    /// Its name in the namespace.
    pub name: String,
    /// Its hardware address, where it has one of six bytes.
    pub mac: Option<Mac>,
    /// Bytes in a packet.
    pub mtu: u32,
    /// Whether it is up.
    pub up: bool,
    /// The free text at it.
    pub alias: Option<String>,
}

/// A connection to the kernel's tables of one network namespace.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// Runs `work` in a network namespace, on a thread of its own, as a thread cannot always go back.
pub fn in_namespace<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, || {
            sys::enter(namespace, libc::CLONE_NEWNET)?;
            work()
        })?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
    })
}

impl Netlink {
    /// Connects to the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // The kernel answers at once; the limit only keeps a lost answer from hanging us.
        rustix::net::sockopt::set_socket_timeout(
            // The borrow ends before the socket is used again.
            socket.as_fd(),
            rustix::net::sockopt::Timeout::Recv,
            Some(std::time::Duration::from_secs(10)),
        )?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The interface of a name.
    pub fn find(&mut self, name: &str) -> io::Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        match self.request(RouteNetlinkMessage::GetLink(message), 0) {
            Ok(answers) => Ok(answers.iter().find_map(seen_link)),
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The number of the interface of a name, or `ENODEV`.
    pub fn index(&mut self, name: &str) -> io::Result<u32> {
        self.find(name)?.map(|link| link.index).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    }

    /// All interfaces.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let answers = self.request(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
        Ok(answers.iter().filter_map(seen_link).collect())
    }

    /// Changes an interface: what is in `attributes`, and up or down if given.
    fn set(&mut self, index: u32, attributes: Vec<LinkAttribute>, up: Option<bool>) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = attributes;
        if let Some(up) = up {
            message.header.change_mask = LinkFlags::Up;
            message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        }
        self.request(RouteNetlinkMessage::SetLink(message), NLM_F_ACK).map(|_| ())
    }

    /// Renames an interface.
    pub fn rename(&mut self, index: u32, name: &str) -> io::Result<()> {
        self.set(index, vec![LinkAttribute::IfName(name.into())], None)
    }

    /// Sets the hardware address.
    pub fn set_mac(&mut self, index: u32, mac: Mac) -> io::Result<()> {
        self.set(index, vec![LinkAttribute::Address(mac.to_vec())], None)
    }

    /// Sets the size of packets.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> io::Result<()> {
        self.set(index, vec![LinkAttribute::Mtu(mtu)], None)
    }

    /// Brings an interface up or down.
    pub fn set_up(&mut self, index: u32, up: bool) -> io::Result<()> {
        self.set(index, Vec::new(), Some(up))
    }

    /// Sets the free text at an interface (`ip link set … alias`), which stays with it when it moves.
    pub fn set_alias(&mut self, index: u32, alias: &str) -> io::Result<()> {
        self.set(index, vec![LinkAttribute::IfAlias(alias.into())], None)
    }

    /// Moves an interface into another namespace under a name that is free there.
    pub fn move_to(&mut self, index: u32, namespace: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        let attributes =
            vec![LinkAttribute::NetNsFd(namespace.as_raw_fd()), LinkAttribute::IfName(name.into())];
        self.set(index, attributes, None)
    }

    /// Makes a virtual cable with its other end in another namespace.
    pub fn add_veth(&mut self, name: &str, peer: &str, peer_namespace: BorrowedFd<'_>) -> io::Result<()> {
        let mut other = LinkMessage::default();
        other.attributes =
            vec![LinkAttribute::IfName(peer.into()), LinkAttribute::NetNsFd(peer_namespace.as_raw_fd())];
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.into()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
            ]),
        ];
        self.request(RouteNetlinkMessage::NewLink(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(|_| ())
    }

    fn address_message(index: u32, address: IpNet) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = address.prefix_len();
        message.header.family = family(address.addr());
        // Addresses come from one store, so that looking for duplicates only costs a second of waiting.
        message.header.flags = AddressHeaderFlags::Nodad;
        message.attributes =
            vec![AddressAttribute::Local(address.addr()), AddressAttribute::Address(address.addr())];
        if let IpNet::V4(net) = address
            && net.prefix_len() < 31
        {
            message.attributes.push(AddressAttribute::Broadcast(net.broadcast()));
        }
        message
    }

    /// Adds an address; `EEXIST` if it is there.
    pub fn add_address(&mut self, index: u32, address: IpNet) -> io::Result<()> {
        let message = Self::address_message(index, address);
        self.request(RouteNetlinkMessage::NewAddress(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
            .map(|_| ())
    }

    /// Removes an address. That it is not there is no error.
    pub fn delete_address(&mut self, index: u32, address: IpNet) -> io::Result<()> {
        let message = Self::address_message(index, address);
        match self.request(RouteNetlinkMessage::DelAddress(message), NLM_F_ACK) {
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// The addresses of all interfaces, with the interface's number.
    pub fn addresses(&mut self) -> io::Result<Vec<(u32, IpNet)>> {
        let answers = self.request(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)?;
        Ok(answers
            .iter()
            .filter_map(|answer| {
                let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
                let mut address = None;
                for attribute in &message.attributes {
                    match attribute {
                        AddressAttribute::Local(ip) => address = Some(*ip),
                        AddressAttribute::Address(ip) => address = address.or(Some(*ip)),
                        _ => {}
                    }
                }
                Some((message.header.index, IpNet::new(address?, message.header.prefix_len).ok()?))
            })
            .collect())
    }

    /// Sets the default route of the gateway's family, in place of another one.
    pub fn set_default_route(&mut self, gateway: IpAddr, index: u32) -> io::Result<()> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(gateway);
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Static;
        message.header.scope = RouteScope::Universe;
        message.header.kind = RouteType::Unicast;
        message.attributes =
            vec![RouteAttribute::Gateway(RouteAddress::from(gateway)), RouteAttribute::Oif(index)];
        self.request(RouteNetlinkMessage::NewRoute(message), NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE)
            .map(|_| ())
    }

    /// The default routes' gateways, of both families.
    pub fn default_gateways(&mut self) -> io::Result<BTreeSet<IpAddr>> {
        let mut message = RouteMessage::default();
        // RTM_GETROUTE gives the routes of both.
        message.header.address_family = AddressFamily::Unspec;
        let answers = self.request(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
        let gateway = |answer: &RouteNetlinkMessage| {
            let RouteNetlinkMessage::NewRoute(route) = answer else { return None };
            let main = route.header.destination_prefix_length == 0
                && route.header.table == RouteHeader::RT_TABLE_MAIN;
            route.attributes.iter().filter(|_| main).find_map(|attribute| match attribute {
                RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => Some(IpAddr::from(*gateway)),
                RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => Some(IpAddr::from(*gateway)),
                _ => None,
            })
        };
        Ok(answers.iter().filter_map(gateway).collect())
    }

    /// Sends one request and gathers its answers.
    fn request(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut packet = NetlinkMessage::new(header, NetlinkPayload::from(message));
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        loop {
            let (bytes, _) = self.socket.recv_from_full()?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let packet = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
                // Netlink messages are padded to four bytes; the length is checked by the parser to be at least a header.
                let length = (packet.header.length as usize).next_multiple_of(4).max(16);
                rest = rest.get(length..).unwrap_or_default();
                if packet.header.sequence_number != self.sequence {
                    continue;
                }
                match packet.payload {
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    _ => {}
                }
                if flags & (NLM_F_DUMP | NLM_F_ACK) == 0 {
                    return Ok(answers);
                }
            }
        }
    }
}

/// The interface an answer speaks of.
fn seen_link(answer: &RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = answer else { return None };
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        alias: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
            _ => {}
        }
    }
    Some(link)
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// Sets a value below `/proc/sys/net/` of the calling thread's namespace.
pub fn sysctl(name: &str, value: &str) -> io::Result<()> {
    std::fs::write(format!("/proc/sys/net/{name}"), value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_found_by_name_and_in_the_dump() {
        let mut netlink = Netlink::open().unwrap();
        let found = netlink.find("lo").unwrap().unwrap();
        assert!(netlink.links().unwrap().contains(&found));
        assert_eq!(netlink.find("nosuchif0").unwrap(), None);
        assert_eq!(netlink.index("nosuchif0").unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }
}
