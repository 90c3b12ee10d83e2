//! Interfaces moving into jails and back, and their addresses: [`Op::IfMoveIn`](crate::host::Op) and its kin.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use super::jails::{self, Seen};
use super::stack::Stack;
use crate::host::failure::Context;
use crate::host::graph::Interfaces;
use crate::host::{Failure, SeenInterface};
use crate::ids::Id;

/// Interfaces by ioctl.
pub struct ByIoctl;

impl Interfaces for ByIoctl {
    fn rename(&self, from: &str, to: &str) -> Result<(), Failure> {
        let rename = || Stack::host()?.rename(from, to);
        rename().doing(|| format!("rename the interface {from} to {to}"))
    }

    fn set_mtu(&self, interface: &str, mtu: u16) -> Result<(), Failure> {
        let set = || Stack::host()?.set_mtu(interface, mtu);
        set().doing(|| format!("set the MTU of {interface} to {mtu}"))
    }
}

/// Moves an interface into a jail. If it is there under its new name already, that is success: a repetition.
pub fn move_in(interface: &str, jail: &str, inside: &str) -> Result<(), Failure> {
    let what = || format!("move {interface} into {jail} as {inside}");
    let jail = jails::need(jail)?;
    let host = Stack::host().doing(what)?;
    if host.has(interface).doing(what)? {
        // So that it is known in the jail whose it is, and what its name is at home. One that keeps its name keeps its description.
        if inside != interface {
            host.describe(interface, interface).doing(what)?;
        }
        host.lend(interface, jail.jid).doing(what)?;
    }
    let there = Stack::of_jail(&jail).doing(what)?;
    match there.has(inside).doing(what)? {
        // An interface of the jail's own might bear the name.
        true if inside == interface || there.description(inside).doing(what)? == interface => Ok(()),
        _ => there.rename(interface, inside).doing(what),
    }
}

/// Brings an interface home under its own name. Nothing to do if it is home, or gone.
///
/// It gets its name back inside, so that two that come home at once do not meet there under one name.
pub fn move_home(
    interface: &str,
    jail: &str,
    inside: &str,
    now_called: impl FnOnce() -> Result<Option<String>, Failure>,
) -> Result<(), Failure> {
    let what = || format!("bring {interface} home from {jail}");
    let host = Stack::host().doing(what)?;
    if host.has(interface).doing(what)? {
        return Ok(());
    }
    let Some(jail) = jails::alive(jail)? else {
        // With a jail its interfaces go home, but when is up to whatever keeps it dying; and under the name they had inside.
        if !jails::gone(jail, super::PATIENCE)? {
            return Err(Failure::new(format!("{}: the jail is dying and still holds it", what()))
                .hint("`jls -d` lists dying jails; sockets in TIME_WAIT keep one for a minute"));
        }
        return match now_called()? {
            Some(name) if name != interface && host.has(&name).doing(what)? => {
                host.rename(&name, interface).doing(what)
            }
            _ => Ok(()),
        };
    };
    let there = Stack::of_jail(&jail).doing(what)?;
    let renamed = inside != interface
        && there.has(inside).doing(what)?
        && there.description(inside).doing(what)? == interface;
    if renamed {
        there.rename(inside, interface).doing(what)?;
    } else if !there.has(interface).doing(what)? {
        return Ok(());
    }
    drop(there);
    host.reclaim(interface, jail.jid).doing(what)
}

/// Whether an instance's interface, which is called `now`, is on the host. A name alone does not say so: what is `net0` in a jail may
/// not be the host's own `net0`. One that was never renamed has never been away, one that has been bears its name.
pub fn is_home(interface: &str, now: &str) -> io::Result<bool> {
    let host = Stack::host()?;
    Ok(host.has(now)?
        && (now == interface || now.starts_with("ngeth") || host.description(now)? == interface))
}

/// Sets addresses and default routes, and brings the interface up.
pub fn configure(
    interface: &str,
    jail: Option<&str>,
    addresses: &[IpNet],
    routes: &[IpAddr],
    loopback: bool,
) -> Result<(), Failure> {
    let what = || format!("configure {interface} of {}", jail.unwrap_or("the host"));
    let stack = match jail {
        Some(jail) => Stack::of_jail(&jails::need(jail)?),
        None => Stack::host(),
    }
    .doing(what)?;
    if loopback {
        stack.up("lo0").doing(what)?;
        for address in ["127.0.0.1/8", "::1/128"] {
            let address: IpNet = address.parse().map_err(|_| Failure::new("a loopback address is none"))?;
            match stack.add("lo0", address) {
                // lo0 has ::1 as soon as it is up.
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                other => other.doing(|| format!("{}: {address} on lo0", what()))?,
            }
        }
    }
    // Up first: a route needs its interface so.
    stack.up(interface).doing(what)?;
    for address in addresses {
        stack.add(interface, *address).doing(|| format!("{}: address {address}", what()))?;
    }
    for gateway in routes {
        stack.default_route(*gateway).doing(|| format!("{}: default route by {gateway}", what()))?;
    }
    Ok(())
}

/// The addresses on an interface of a jail.
pub fn addresses(interface: &str, jail: &str) -> Result<Vec<IpAddr>, Failure> {
    let there = Stack::of_jail(&jails::need(jail)?).and_then(|there| there.interfaces());
    let there = there.doing(|| format!("list the addresses of {interface} in {jail}"))?;
    Ok(there.into_iter().filter(|(name, _)| name == interface).flat_map(|(_, addresses)| addresses).collect())
}

/// Addresses with the interface they are on.
pub type Aliases = BTreeSet<(String, IpNet)>;

/// Our interfaces with how they are set, by the names they have at home.
type Settings = BTreeMap<String, SeenInterface>;

/// How an interface is set. Its hardware address and the routes of its stack would take a sysctl(3) made in its jail.
fn settings(stack: &Stack, name: &str, addresses: Vec<IpAddr>) -> io::Result<SeenInterface> {
    let addresses = addresses.into_iter().collect();
    Ok(SeenInterface { up: stack.is_up(name)?, mac: None, addresses, gateways: None })
}

/// Our interfaces at home, and the addresses added to them for shared-IP jails: those with a prefix of their own length.
pub fn of_host() -> Result<(Settings, Aliases), Failure> {
    let list = || -> io::Result<Settings> {
        let host = Stack::host()?;
        let all = host.interfaces()?.into_iter().filter(|(name, _)| Id::of_interface(name).is_some());
        all.map(|(name, addresses)| Ok((name.clone(), settings(&host, &name, addresses)?))).collect()
    };
    let names: Settings = list().doing(|| "list the interfaces")?;
    let all = nix::ifaddrs::getifaddrs()
        .map_err(|errno| Failure::os("list the addresses of the host", &errno.into()))?;
    let mut aliases = BTreeSet::new();
    for entry in all.filter(|entry| names.contains_key(&entry.interface_name)) {
        let ip = |it: &nix::sys::socket::SockaddrStorage| {
            let v4 = it.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
            v4.or_else(|| it.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))
        };
        let Some(address) = entry.address.as_ref().and_then(ip) else { continue };
        let single = match entry.netmask.as_ref().and_then(ip) {
            Some(IpAddr::V4(mask)) => mask.to_bits() == u32::MAX,
            Some(IpAddr::V6(mask)) => mask.to_bits() == u128::MAX,
            None => false,
        };
        if single {
            aliases.insert((entry.interface_name, address.into()));
        }
    }
    Ok((names, aliases))
}

/// Our interfaces in a jail.
pub fn of_jail(jail: &Seen) -> io::Result<Settings> {
    let there = Stack::of_jail(jail)?;
    let mut all = Settings::new();
    for (name, addresses) in there.interfaces()? {
        let settings = settings(&there, &name, addresses)?;
        let home = there.description(&name)?;
        all.extend(
            [home, name]
                .into_iter()
                .find(|name| Id::of_interface(name).is_some())
                .map(|name| (name, settings)),
        );
    }
    Ok(all)
}
