//! Whether what an operation makes is there already, as it would have made it: [`Op::Stands`]. Nothing is changed by it.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use ipnet::IpNet;

use super::iov::Iov;
use super::stack::Stack;
use super::{fsstat, jails, mounts, params, tool};
use crate::host::booleans;
use crate::host::failure::Context;
use crate::host::stands::{
    difference, has_child, is_dying, no_alias, no_interface, no_jail, no_mount, other_jail,
};
use crate::host::{Failure, Jail, Mount, Op, Reply};

/// Room for a parameter's value where the one that is wanted does not say how long it may be.
const ROOM: usize = 4096;
/// What a process in the jail may have changed by itself: no sign of another configuration.
const ITS_OWN: [&str; 4] = ["host.hostname", "host.domainname", "host.hostuuid", "host.hostid"];
/// What a jail may do unless told otherwise: `JAIL_DEFAULT_ALLOW` of sys/kern/kern_jail.c, the same in 13.2 and 15.
const ALLOWED: [&str; 4] =
    ["allow.set_hostname", "allow.reserved_ports", "allow.unprivileged_proc_debug", "allow.suser"];

/// Looks.
pub fn stands(made: &Op) -> Result<Reply, Failure> {
    match made {
        Op::JailCreate(wanted) => jail(wanted).map(|jid| Reply::Jail { jid }),
        Op::Mount(wanted) => mount(wanted).map(|()| Reply::Done),
        Op::AliasAdd { interface, addresses } => aliases(interface, addresses),
        Op::IfMoveIn { interface, jail, inside } => {
            let what = || format!("look for {inside} in {jail}");
            let there = Stack::of_jail(&jails::need(jail)?).doing(what)?;
            match there.has(inside).doing(what)? {
                true => Ok(Reply::Done),
                false => Err(no_interface(interface, jail)),
            }
        }
        // Which jail a dataset is delegated to only the jail itself is told.
        _ => Ok(Reply::Done),
    }
}

fn jail(wanted: &Jail) -> Result<i32, Failure> {
    let there = jails::find(&wanted.name)?.ok_or_else(|| no_jail(&wanted.name))?;
    if there.dying {
        return Err(is_dying(&wanted.name));
    }
    if let Some(child) = jails::children(&wanted.name)?.first() {
        return Err(has_child(&wanted.name, &child.name));
    }
    let mut differences = Vec::new();
    if !same_place(&wanted.path, &there.path) {
        differences.push(difference("path", wanted.path.display(), there.path.display()));
    }
    if wanted.vnet != there.vnet {
        differences.push(difference("vnet", wanted.vnet, there.vnet));
    }
    for (name, value) in params::of(wanted)?.pairs() {
        // A jail(8) that was told of no persist has taken it back by now; Warren would not.
        if !matches!(name, "name" | "path" | "vnet" | "persist") && !ITS_OWN.contains(&name) {
            differences.extend(differs(there.jid, name, value)?);
        }
    }
    differences.extend(allowed_besides(wanted, there.jid)?);
    if differences.is_empty() { Ok(there.jid) } else { Err(other_jail(wanted, &differences)) }
}

fn same_place(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// What the kernel has at a name.
fn value(jid: i32, name: &str, room: usize) -> Result<Vec<u8>, Failure> {
    let mut iov = Iov::default();
    iov.int("jid", jid).room(name, room);
    iov.call(libc::jail_get, 0).map_err(|refusal| refusal.failure(format!("read the parameter {name}")))?;
    Ok(iov.value(name).to_vec())
}

/// How a parameter differs from the bytes that jail_set(2) would be given for it.
fn differs(jid: i32, name: &str, wanted: &[u8]) -> Result<Option<String>, Failure> {
    // A name alone is a boolean: under it the kernel says whether it is so, a negated one included.
    if wanted.is_empty() {
        let so = value(jid, name, 4)?.iter().any(|byte| *byte != 0);
        return Ok((!so).then(|| difference(name, true, false)));
    }
    if name == "jid" {
        return Ok((wanted != jid.to_ne_bytes()).then(|| difference("jid", number(wanted), jid)));
    }
    if let Some(width) = [("ip4.addr", 4), ("ip6.addr", 16)].iter().find(|(n, _)| *n == name).map(|(_, w)| *w)
    {
        let found = value(jid, name, ROOM)?;
        let set = |bytes: &[u8]| -> BTreeSet<Vec<u8>> {
            bytes.chunks(width).filter(|a| a.iter().any(|byte| *byte != 0)).map(<[u8]>::to_vec).collect()
        };
        let (wanted, found) = (set(wanted), set(&found));
        return Ok((wanted != found).then(|| difference(name, addresses(&wanted), addresses(&found))));
    }
    // A text ends with its only NUL. A number that looks like one would be above 2,000,000.
    if wanted.iter().position(|byte| *byte == 0) == Some(wanted.len() - 1) {
        let (wanted, found) = (super::iov::string(wanted), super::iov::string(&value(jid, name, ROOM)?));
        return Ok((wanted != found).then(|| difference(name, wanted, found)));
    }
    // The kernel takes no room but the very size of a number.
    let found = value(jid, name, wanted.len())?;
    // It can be raised from inside and never lowered.
    let raised = name == "securelevel" && number(&found) >= number(wanted);
    Ok((found != wanted && !raised).then(|| difference(name, number(wanted), number(&found))))
}

fn number(bytes: &[u8]) -> i64 {
    match (bytes.first_chunk::<8>(), bytes.first_chunk::<4>()) {
        (Some(bytes), _) => i64::from_ne_bytes(*bytes),
        (None, Some(bytes)) => i32::from_ne_bytes(*bytes).into(),
        (None, None) => 0,
    }
}

fn addresses(all: &BTreeSet<Vec<u8>>) -> String {
    let text = |bytes: &Vec<u8>| match (<[u8; 4]>::try_from(&bytes[..]), <[u8; 16]>::try_from(&bytes[..])) {
        (Ok(v4), _) => std::net::Ipv4Addr::from(v4).to_string(),
        (_, Ok(v6)) => std::net::Ipv6Addr::from(v6).to_string(),
        _ => "?".to_owned(),
    };
    if all.is_empty() { "none".to_owned() } else { all.iter().map(text).collect::<Vec<_>>().join(", ") }
}

/// What the jail may do and the file does not say: it was started by another text, or changed since.
fn allowed_besides(wanted: &Jail, jid: i32) -> Result<Vec<String>, Failure> {
    let names = tool::run("/sbin/sysctl", &["-N", "security.jail.param.allow"], "")?
        .or_failure("list the parameters of jails")?;
    let mut found = Vec::new();
    for name in names.lines().filter_map(|line| line.strip_prefix("security.jail.param.")) {
        let name = name.trim_end_matches('.');
        let negative = booleans::negative(name);
        if wanted.params.contains_key(name) || wanted.params.contains_key(&negative) {
            continue;
        }
        let allowed = match value(jid, name, 4) {
            Ok(bytes) => bytes.iter().any(|byte| *byte != 0),
            // A node that is no parameter, or one of a module that has just gone.
            Err(failure) if matches!(failure.errno, Some(libc::EINVAL | libc::ENOENT)) => continue,
            Err(failure) => return Err(failure),
        };
        match (allowed, ALLOWED.contains(&name)) {
            (true, false) => found.push(format!("it has {name}, which the file does not say")),
            (false, true) => found.push(format!("it has {negative}, which the file does not say")),
            _ => {}
        }
    }
    Ok(found)
}

fn mount(wanted: &Mount) -> Result<(), Failure> {
    let point = mounts::place(wanted)?;
    let same =
        |there: &fsstat::Mounted| mounts::is_ours(wanted, there) && there.read_only == wanted.read_only;
    if fsstat::top(&point).as_ref().is_some_and(same) {
        return Ok(());
    }
    // Others of the same jail may lie over it.
    let mut all = fsstat::all_at(&point).doing(|| format!("look for the mount on {}", point.display()))?;
    match all.iter().any(same) {
        true => Ok(()),
        false => {
            let there = all.pop();
            let found = there.map(|there| {
                let access = if there.read_only { ", read-only" } else { "" };
                format!("{} ({}{access})", there.source, there.fstype)
            });
            Err(no_mount(wanted, &point, found.as_deref()))
        }
    }
}

fn aliases(interface: &str, addresses: &[IpNet]) -> Result<Reply, Failure> {
    let all = Stack::host().and_then(|host: Stack| -> io::Result<_> { host.interfaces() });
    let all = all.doing(|| format!("list the addresses of {interface}"))?;
    let there: Vec<_> =
        all.into_iter().filter(|(name, _)| name == interface).flat_map(|(_, addresses)| addresses).collect();
    match addresses.iter().find(|address| !there.contains(&address.addr())) {
        Some(address) => Err(no_alias(interface, *address)),
        None => Ok(Reply::Aliases { added: addresses.to_vec() }),
    }
}
