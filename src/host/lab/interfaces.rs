//! Interfaces moving into jails and back, and their addresses: [`Op::IfMoveIn`](crate::host::Op) and its kin.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ipnet::IpNet;

use crate::host::SeenInterface;
use crate::ids::Id;

use super::netlink::{Link, Netlink, in_namespace, sysctl};

/// Runs `work` with the tables of a jail, or of the host.
pub fn with<T: Send>(
    jail: Option<&OwnedFd>,
    work: impl FnOnce(&mut Netlink) -> io::Result<T> + Send,
) -> io::Result<T> {
    match jail {
        Some(namespace) => in_namespace(namespace.as_fd(), || work(&mut Netlink::open()?)),
        None => work(&mut Netlink::open()?),
    }
}

/// The calling thread's network namespace, which is the lab's host side.
pub fn home() -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open("/proc/thread-self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Into::into)
}

/// Moves an interface into a jail. If it is there under its new name already, that is success: a repetition.
pub fn move_in(interface: &str, jail: &OwnedFd, inside: &str) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    match netlink.find(interface)? {
        Some(link) => {
            // FreeBSD takes an interface down when it moves; here it must be down to be renamed.
            netlink.set_up(link.index, false)?;
            // So that it is known in the jail whose it is.
            netlink.set_alias(link.index, interface)?;
            netlink.move_to(link.index, jail.as_fd(), inside)
        }
        None => with(Some(jail), |there| there.index(inside)).map(|_| ()),
    }
}

/// Brings an interface home under its own name. Nothing to do if it is home, or gone with its jail.
pub fn move_home(
    interface: &str,
    jail: Option<&OwnedFd>,
    inside: &str,
    home: BorrowedFd<'_>,
) -> io::Result<()> {
    let Some(jail) = jail else { return Ok(()) };
    if Netlink::open()?.find(interface)?.is_some() {
        return Ok(());
    }
    with(Some(jail), |there| {
        // Under its new name, or under its own if a move in stopped before the renaming.
        let found = match there.find(inside)? {
            None => there.find(interface)?,
            found => found,
        };
        let Some(link) = found else { return Ok(()) };
        there.set_up(link.index, false)?;
        there.move_to(link.index, home, interface)
    })
}

/// Sets addresses and default routes, and brings the interface up.
pub fn configure(
    interface: &str,
    jail: Option<&OwnedFd>,
    addresses: &[IpNet],
    routes: &[IpAddr],
    loopback: bool,
) -> io::Result<()> {
    with(jail, |netlink| {
        if loopback {
            let index = netlink.index("lo")?;
            netlink.set_up(index, true)?;
        }
        let index = netlink.index(interface)?;
        quiet_ipv6(interface);
        netlink.set_up(index, true)?;
        for address in addresses {
            match netlink.add_address(index, *address) {
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                other => other?,
            }
        }
        for gateway in routes {
            netlink.set_default_route(*gateway, index)?;
        }
        Ok(())
    })
}

/// The lab's addresses are usable at once: nobody else gives any out there. Without IPv6 there are no such files.
fn quiet_ipv6(interface: &str) {
    for name in ["accept_dad", "accept_ra", "router_solicitations"] {
        let _ = sysctl(&format!("ipv6/conf/{interface}/{name}"), "0");
    }
}

/// The addresses on an interface of a jail.
pub fn addresses(interface: &str, jail: &OwnedFd) -> io::Result<Vec<IpAddr>> {
    with(Some(jail), |netlink| {
        let index = netlink.index(interface)?;
        let all = netlink.addresses()?.into_iter();
        Ok(all.filter(|(of, _)| *of == index).map(|(_, address)| address.addr()).collect())
    })
}

/// Adds addresses to an interface of the host; gives those that were not there before.
pub fn add_aliases(interface: &str, addresses: &[IpNet]) -> io::Result<Vec<IpNet>> {
    let mut netlink = Netlink::open()?;
    let index = netlink.index(interface)?;
    let mut added = Vec::new();
    for address in addresses {
        match netlink.add_address(index, *address) {
            Ok(()) => added.push(*address),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            Err(error) => {
                // All or nothing: the caller does not learn which of them were new.
                for address in added {
                    let _ = netlink.delete_address(index, address);
                }
                return Err(error);
            }
        }
    }
    Ok(added)
}

/// Removes addresses. Neither they nor the interface need be there.
pub fn remove_aliases(interface: &str, addresses: &[IpNet]) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    let Some(link) = netlink.find(interface)? else { return Ok(()) };
    for address in addresses {
        netlink.delete_address(link.index, *address)?;
    }
    Ok(())
}

/// Addresses with the interface they are on.
pub type Aliases = BTreeSet<(String, IpNet)>;

/// Our interfaces with how they are set, by the names they have at home.
type Settings = BTreeMap<String, SeenInterface>;

/// How all interfaces of a namespace are set, with their links.
fn settings(netlink: &mut Netlink) -> io::Result<Vec<(Link, SeenInterface)>> {
    let (addresses, gateways) = (netlink.addresses()?, netlink.default_gateways()?);
    let of = |link: Link| {
        let own = addresses.iter().filter(|(index, _)| *index == link.index);
        let seen = SeenInterface {
            up: link.up,
            mac: link.mac,
            addresses: own.map(|(_, address)| address.addr()).collect(),
            gateways: Some(gateways.clone()),
        };
        (link, seen)
    };
    Ok(netlink.links()?.into_iter().map(of).collect())
}

/// Our interfaces at home, and the addresses that were added for shared-IP jails: those with a prefix of their own length
/// (/32, /128), since the others are the host's.
pub fn of_host() -> io::Result<(Settings, Aliases)> {
    let mut netlink = Netlink::open()?;
    let all = settings(&mut netlink)?;
    let links: BTreeMap<u32, &str> = all.iter().map(|(link, _)| (link.index, link.name.as_str())).collect();
    let mut aliases = BTreeSet::new();
    for (index, address) in netlink.addresses()? {
        let single = address.prefix_len() == address.max_prefix_len() && !address.addr().is_loopback();
        if let (Some(name), true) = (links.get(&index), single) {
            aliases.insert(((*name).to_owned(), address));
        }
    }
    let ours = all
        .into_iter()
        .map(|(link, seen)| (link.name, seen))
        .filter(|(name, _)| Id::of_interface(name).is_some());
    Ok((ours.collect(), aliases))
}

/// Our interfaces in a jail.
pub fn of_jail(jail: &OwnedFd) -> io::Result<Settings> {
    with(Some(jail), |netlink| {
        let all = settings(netlink)?.into_iter().filter_map(|(link, seen)| Some((link.alias?, seen)));
        Ok(all.filter(|(name, _)| Id::of_interface(name).is_some()).collect())
    })
}
