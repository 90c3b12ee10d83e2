//! A network stack, the host's or a jail's, by ioctl(2) on sockets that belong to it (netintro(4); numbers and layouts in facts B.4).
#![allow(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Mutex;

use ipnet::IpNet;

use super::attach;
use super::jails::Seen;
use crate::ids::Id;

/// sys/sockio.h, netinet6/in6_var.h; printed by a C program against the headers of 13.2.
mod number {
    pub const SIOCGIFFLAGS: u64 = 0xc020_6911;
    pub const SIOCSIFFLAGS: u64 = 0x8020_6910;
    pub const SIOCDIFADDR: u64 = 0x8020_6919;
    pub const SIOCSIFCAP: u64 = 0x8020_691e;
    pub const SIOCGIFCAP: u64 = 0xc020_691f;
    pub const SIOCGIFCONF: u64 = 0xc010_6924;
    pub const SIOCSIFNAME: u64 = 0x8020_6928;
    pub const SIOCSIFDESCR: u64 = 0x8020_6929;
    pub const SIOCGIFDESCR: u64 = 0xc020_692a;
    pub const SIOCSIFMTU: u64 = 0x8020_6934;
    pub const SIOCSIFVNET: u64 = 0xc020_695a;
    pub const SIOCSIFRVNET: u64 = 0xc020_695b;
    pub const SIOCAIFADDR: u64 = 0x8044_692b;
    pub const SIOCDIFADDR_IN6: u64 = 0x8120_6919;
    pub const SIOCAIFADDR_IN6: u64 = 0x8088_691b;
    pub const SIOCGIFINFO_IN6: u64 = 0xc048_696c;
    pub const SIOCSIFINFO_FLAGS: u64 = 0xc048_6957;
}

/// An ifreq's name and the union behind it.
const IFNAMSIZ: usize = 16;
const IFREQ: usize = 32;
/// net/if.h: IFF_UP. netinet6/nd6.h, in6_var.h.
const IFF_UP: u16 = 1;
const ND6_IFF_IFDISABLED: u32 = 8;
const ND6_IFF_NO_DAD: u32 = 0x100;
/// The longest description that is read.
const DESCRIPTION: usize = 64;

/// Moves between stacks, one at a time: parts of if_vmove_loan() and if_vmove_reclaim() of 13.2 do not bear company (facts B.4).
static MOVING: Mutex<()> = Mutex::new(());

/// Sockets on one stack.
#[derive(Debug)]
pub struct Stack {
    v4: OwnedFd,
    /// A kernel may be built without IPv6.
    v6: Option<OwnedFd>,
    pub(super) route: OwnedFd,
    /// Whether it is a jail's.
    of_jail: bool,
}

/// An argument of an ioctl: as many bytes, aligned for whatever is in it.
#[repr(C, align(8))]
struct Block<const N: usize>([u8; N]);

impl<const N: usize> Block<N> {
    /// Zeroes behind an interface's name.
    fn named(interface: &str) -> io::Result<Self> {
        let mut block = Self([0; N]);
        if interface.is_empty() || interface.len() >= IFNAMSIZ || interface.contains('\0') {
            return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
        }
        block.put(0, interface.as_bytes());
        Ok(block)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        for (to, from) in self.0.iter_mut().skip(at).zip(bytes) {
            *to = *from;
        }
    }

    fn get<const M: usize>(&self, at: usize) -> [u8; M] {
        self.0.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; M])
    }
}

fn ioctl<const N: usize>(fd: &OwnedFd, request: u64, block: &mut Block<N>) -> io::Result<()> {
    // SAFETY: every request here is made for a structure of N bytes (its number holds the size), and pointers in it are valid at
    // the caller's.
    match unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(block)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// `struct sockaddr_in` or `sockaddr_in6`.
pub(super) fn sockaddr(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => {
            let mut bytes = vec![16, libc::AF_INET as u8, 0, 0];
            bytes.extend(address.octets());
            bytes.resize(16, 0);
            bytes
        }
        IpAddr::V6(address) => {
            let mut bytes = vec![28, libc::AF_INET6 as u8, 0, 0, 0, 0, 0, 0];
            bytes.extend(address.octets());
            bytes.resize(28, 0);
            bytes
        }
    }
}

fn absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(it) => Ok(Some(it)),
        // What netintro(4) says of an interface that is not there.
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Stack {
    /// The stack of this process.
    pub fn host() -> io::Result<Self> {
        let open = |family, kind| {
            // SAFETY: takes numbers, touches no memory.
            match unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) } {
                -1 => Err(io::Error::last_os_error()),
                // SAFETY: the descriptor is new and nobody else's.
                fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            }
        };
        let v6 = match open(libc::AF_INET6, libc::SOCK_DGRAM) {
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => None,
            other => Some(other?),
        };
        let (v4, route) = (open(libc::AF_INET, libc::SOCK_DGRAM)?, open(libc::AF_ROUTE, libc::SOCK_RAW)?);
        Ok(Self { v4, v6, route, of_jail: false })
    }

    /// The stack of a vnet jail.
    pub fn of_jail(jail: &Seen) -> io::Result<Self> {
        let [v4, v6, route] = attach::sockets(jail)?;
        Ok(Self { v4, v6: Some(v6), route, of_jail: true })
    }

    fn v6(&self) -> io::Result<&OwnedFd> {
        self.v6.as_ref().ok_or_else(|| io::Error::from_raw_os_error(libc::EAFNOSUPPORT))
    }

    /// The interface's flags; `None` if there is no such interface.
    fn flags(&self, interface: &str) -> io::Result<Option<[u16; 2]>> {
        let mut block = Block::<IFREQ>::named(interface)?;
        absent(ioctl(&self.v4, number::SIOCGIFFLAGS, &mut block)).map(|found| {
            // ifr_flags, ifr_flagshigh.
            found.map(|()| [u16::from_ne_bytes(block.get(16)), u16::from_ne_bytes(block.get(18))])
        })
    }

    /// Whether there is an interface of this name.
    pub fn has(&self, interface: &str) -> io::Result<bool> {
        self.flags(interface).map(|flags| flags.is_some())
    }

    /// Whether an interface is up; one that is not there is not.
    pub fn is_up(&self, interface: &str) -> io::Result<bool> {
        Ok(self.flags(interface)?.is_some_and(|[low, _]| low & IFF_UP != 0))
    }

    /// Brings an interface up.
    pub fn up(&self, interface: &str) -> io::Result<()> {
        let [low, high] = self.flags(interface)?.ok_or_else(|| io::Error::from_raw_os_error(libc::ENXIO))?;
        let mut block = Block::<IFREQ>::named(interface)?;
        block.put(16, &(low | IFF_UP).to_ne_bytes());
        block.put(18, &high.to_ne_bytes());
        ioctl(&self.v4, number::SIOCSIFFLAGS, &mut block)
    }

    /// Renames an interface.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let name = Block::<IFNAMSIZ>::named(to)?;
        let mut block = Block::<IFREQ>::named(from)?;
        block.put(16, &(name.0.as_ptr() as usize).to_ne_bytes());
        // `name` lives to the end of this function, past the call that reads it.
        ioctl(&self.v4, number::SIOCSIFNAME, &mut block)
    }

    /// Sets the size of packets.
    pub fn set_mtu(&self, interface: &str, mtu: u16) -> io::Result<()> {
        let mut block = Block::<IFREQ>::named(interface)?;
        block.put(16, &i32::from(mtu).to_ne_bytes());
        ioctl(&self.v4, number::SIOCSIFMTU, &mut block)
    }

    /// Describes an interface. The text goes with it into another stack.
    pub fn describe(&self, interface: &str, text: &str) -> io::Result<()> {
        let bytes = [text.as_bytes(), b"\0"].concat();
        let mut block = Block::<IFREQ>::named(interface)?;
        // struct ifreq_buffer: length, pointer.
        block.put(16, &bytes.len().to_ne_bytes());
        block.put(24, &(bytes.as_ptr() as usize).to_ne_bytes());
        let done = ioctl(&self.v4, number::SIOCSIFDESCR, &mut block);
        drop(bytes);
        done
    }

    /// An interface's description, empty if it has none.
    pub fn description(&self, interface: &str) -> io::Result<String> {
        let mut bytes = [0_u8; DESCRIPTION];
        let mut block = Block::<IFREQ>::named(interface)?;
        block.put(16, &bytes.len().to_ne_bytes());
        block.put(24, &(bytes.as_mut_ptr() as usize).to_ne_bytes());
        match ioctl(&self.v4, number::SIOCGIFDESCR, &mut block) {
            Ok(()) => Ok(super::iov::string(&bytes)),
            Err(error) if error.raw_os_error() == Some(libc::ENOMSG) => Ok(String::new()),
            Err(error) => Err(error),
        }
    }

    /// The offloads in use and those there are: `IFCAP_*`.
    pub fn capabilities(&self, interface: &str) -> io::Result<u32> {
        let mut block = Block::<IFREQ>::named(interface)?;
        ioctl(&self.v4, number::SIOCGIFCAP, &mut block)?;
        // ifr_reqcap, ifr_curcap.
        Ok(u32::from_ne_bytes(block.get(20)))
    }

    /// Sets the offloads in use.
    pub fn set_capabilities(&self, interface: &str, capabilities: u32) -> io::Result<()> {
        let mut block = Block::<IFREQ>::named(interface)?;
        block.put(16, &capabilities.to_ne_bytes());
        ioctl(&self.v4, number::SIOCSIFCAP, &mut block)
    }

    /// Moves an interface of this stack into a vnet jail.
    pub fn lend(&self, interface: &str, jid: i32) -> io::Result<()> {
        self.transfer(number::SIOCSIFVNET, interface, jid)
    }

    /// Brings an interface of a vnet jail, by its name there, to this stack.
    pub fn reclaim(&self, interface: &str, jid: i32) -> io::Result<()> {
        self.transfer(number::SIOCSIFRVNET, interface, jid)
    }

    fn transfer(&self, request: u64, interface: &str, jid: i32) -> io::Result<()> {
        let mut block = Block::<IFREQ>::named(interface)?;
        block.put(16, &jid.to_ne_bytes());
        let _one = MOVING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        ioctl(&self.v4, request, &mut block)
    }

    /// Sets an address. One that is there is set again, with this prefix length.
    pub fn add(&self, interface: &str, address: IpNet) -> io::Result<()> {
        match address {
            IpNet::V4(net) => {
                // in_aliasreq: name, address, broadcast address, mask, vhid.
                let mut block = Block::<68>::named(interface)?;
                block.put(16, &sockaddr(net.addr().into()));
                // A /32 or /31 has no broadcast address (RFC 3021).
                if net.prefix_len() < 31 {
                    block.put(32, &sockaddr(net.broadcast().into()));
                }
                block.put(48, &sockaddr(net.netmask().into()));
                ioctl(&self.v4, number::SIOCAIFADDR, &mut block)
            }
            IpNet::V6(net) => {
                self.enable_ipv6(interface)?;
                // in6_aliasreq: name, address, destination, mask, flags, lifetimes, vhid.
                let mut block = Block::<136>::named(interface)?;
                block.put(16, &sockaddr(net.addr().into()));
                block.put(72, &sockaddr(net.netmask().into()));
                block.put(120, &u32::MAX.to_ne_bytes());
                block.put(124, &u32::MAX.to_ne_bytes());
                ioctl(self.v6()?, number::SIOCAIFADDR_IN6, &mut block)
            }
        }
    }

    /// Gets an interface ready for IPv6 addresses that may be used at once.
    ///
    /// An interface other than lo0 is born with IPv6 disabled (nd6_ifattach()); ifconfig(8) enables it as it adds an address. And
    /// `IN6_IFF_NODAD` of the address is in the headers but in no line of the kernel (13.2): only the interface's own flag spares
    /// the address its second of being tentative, in which nothing can be bound to it. That flag comes first, since enabling brings
    /// the link-local address.
    fn enable_ipv6(&self, interface: &str) -> io::Result<()> {
        // in6_ndireq: name and nd_ifinfo, whose sixth number is the flags.
        const FLAGS: usize = 16 + 5 * 4;
        let mut block = Block::<72>::named(interface)?;
        ioctl(self.v6()?, number::SIOCGIFINFO_IN6, &mut block)?;
        let flags = u32::from_ne_bytes(block.get(FLAGS));
        // On an interface of the host's own the address may be somebody else's: there the kernel looks.
        let spared = if self.of_jail || Id::of_interface(interface).is_some() {
            flags | ND6_IFF_NO_DAD
        } else {
            flags
        };
        let ready = spared & !ND6_IFF_IFDISABLED;
        if flags == ready {
            return Ok(());
        }
        for flags in [spared, ready] {
            block.put(FLAGS, &flags.to_ne_bytes());
            ioctl(self.v6()?, number::SIOCSIFINFO_FLAGS, &mut block)?;
        }
        Ok(())
    }

    /// Removes an address. Neither it nor the interface need be there.
    pub fn remove(&self, interface: &str, address: IpAddr) -> io::Result<()> {
        let done = match address {
            IpAddr::V4(_) => {
                let mut block = Block::<IFREQ>::named(interface)?;
                block.put(16, &sockaddr(address));
                ioctl(&self.v4, number::SIOCDIFADDR, &mut block)
            }
            IpAddr::V6(_) => {
                let mut block = Block::<288>::named(interface)?;
                block.put(16, &sockaddr(address));
                ioctl(self.v6()?, number::SIOCDIFADDR_IN6, &mut block)
            }
        };
        match done {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENXIO | libc::EADDRNOTAVAIL)) => Ok(()),
            other => other,
        }
    }

    /// The interfaces in order, with their addresses.
    pub fn interfaces(&self) -> io::Result<Vec<(String, Vec<IpAddr>)>> {
        let mut room = 16 << 10;
        loop {
            let mut bytes = vec![0_u8; room];
            // struct ifconf: length, pointer.
            let mut block = Block::<16>([0; 16]);
            block.put(0, &i32::try_from(room).unwrap_or(i32::MAX).to_ne_bytes());
            block.put(8, &(bytes.as_mut_ptr() as usize).to_ne_bytes());
            ioctl(&self.v4, number::SIOCGIFCONF, &mut block)?;
            let length = usize::try_from(i32::from_ne_bytes(block.get(0))).unwrap_or_default();
            // The kernel says how much it wrote, and stops when the next one might not fit.
            if length + (1 << 10) > room && room < 16 << 20 {
                room *= 4;
                continue;
            }
            bytes.truncate(length);
            return Ok(parse(&bytes));
        }
    }
}

/// What SIOCGIFCONF gives: a name, then an address of at least 16 bytes, as often as there are addresses; AF_LINK or AF_UNSPEC for
/// an interface without (ifconf() in net/if.c).
fn parse(mut bytes: &[u8]) -> Vec<(String, Vec<IpAddr>)> {
    let mut all: Vec<(String, Vec<IpAddr>)> = Vec::new();
    while let Some((name, rest)) = bytes.split_at_checked(IFNAMSIZ) {
        let [length, family, ..] = rest else { break };
        let length = usize::from(*length).max(16);
        let Some((address, rest)) = rest.split_at_checked(length) else { break };
        bytes = rest;
        let address = match i32::from(*family) {
            libc::AF_INET => {
                address.get(4..).and_then(<[u8]>::first_chunk::<4>).map(|b| IpAddr::from(Ipv4Addr::from(*b)))
            }
            libc::AF_INET6 => {
                address.get(8..).and_then(<[u8]>::first_chunk::<16>).map(|b| IpAddr::from(Ipv6Addr::from(*b)))
            }
            _ => None,
        };
        let name = super::iov::string(name);
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some((_, addresses)) => addresses.extend(address),
            None => all.push((name, address.into_iter().collect())),
        }
    }
    all
}
