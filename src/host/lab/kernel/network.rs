//! The lab's own network: loopback, and a cable to a namespace that stands for the rest of the world, so that published ports
//! and NAT have an outside. There is no way from here to the Internet or to the machine.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use ipnet::IpNet;
use rustix::fs::{Mode, OFlags};

use super::super::failure::Context;
use super::super::netlink::{self, Netlink};
use super::super::sys;
use crate::host::Failure;

/// The host's interface to the outside.
pub const WAN: &str = "wan0";
/// The host's addresses on it: documentation prefixes, RFC 5737 and RFC 3849.
const WAN_ADDRESSES: [&str; 2] = ["192.0.2.1/24", "2001:db8:ffff::1/64"];
/// The addresses of the outside.
const OUTSIDE_ADDRESSES: [&str; 2] = ["192.0.2.2/24", "2001:db8:ffff::2/64"];

/// Builds it, and gives the outside's namespace.
pub(super) fn boot() -> Result<OwnedFd, Failure> {
    let outside = std::thread::spawn(|| -> io::Result<OwnedFd> {
        sys::unshare_net()?;
        let namespace =
            rustix::fs::open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        quiet_ipv6()?;
        Ok(namespace)
    })
    .join()
    .unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
    .doing(|| "make the network namespace of the outside")?;
    inside(&outside).doing(|| "build the lab's network")?;
    netlink::in_namespace(outside.as_fd(), || configure("outside0", &OUTSIDE_ADDRESSES))
        .doing(|| "configure the outside of the lab")?;
    Ok(outside)
}

fn inside(outside: &OwnedFd) -> io::Result<()> {
    quiet_ipv6()?;
    netlink::sysctl("ipv4/ip_forward", "1")?;
    if has_ipv6() {
        netlink::sysctl("ipv6/conf/all/forwarding", "1")?;
    }
    Netlink::open()?.add_veth(WAN, "outside0", outside.as_fd())?;
    configure(WAN, &WAN_ADDRESSES)
}

fn configure(interface: &str, addresses: &[&str]) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    for name in ["lo", interface] {
        let index = netlink.index(name)?;
        netlink.set_up(index, true)?;
    }
    let index = netlink.index(interface)?;
    for address in addresses {
        let address: IpNet = address.parse().map_err(io::Error::other)?;
        if has_ipv6() || matches!(address, IpNet::V4(_)) {
            netlink.add_address(index, address)?;
        }
    }
    Ok(())
}

fn has_ipv6() -> bool {
    std::path::Path::new("/proc/sys/net/ipv6/conf/all").exists()
}

/// No duplicate address detection, no router discovery: see jail-init.
fn quiet_ipv6() -> io::Result<()> {
    if has_ipv6() {
        for scope in ["default", "all"] {
            for name in ["accept_dad", "accept_ra", "router_solicitations"] {
                netlink::sysctl(&format!("ipv6/conf/{scope}/{name}"), "0")?;
            }
        }
    }
    Ok(())
}
