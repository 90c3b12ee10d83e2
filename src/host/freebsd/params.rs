//! Parameters of jails as the kernel takes them. Their types are asked of the kernel (`security.jail.param.*`), never guessed by
//! its version: modules add parameters, and releases do (facts B.1).

use std::net::IpAddr;

use super::iov::Iov;
use super::sysctl::{self, Kind};
use crate::config::spec::ParamValue;
use crate::host::booleans::{positive, said};
use crate::host::failure::Context;
use crate::host::{Failure, Jail};

/// sys/sysctl.h.
const CTLTYPE_NODE: u32 = 1;
const CTLTYPE_INT: u32 = 2;
const CTLTYPE_STRING: u32 = 3;
const CTLTYPE_LONG: u32 = 7;
const CTLTYPE_ULONG: u32 = 8;
const CTLTYPE_UINT: u32 = 6;

/// Everything jail_set(2) is told for a new jail.
pub fn of(jail: &Jail) -> Result<Iov, Failure> {
    let mut iov = Iov::default();
    iov.text("name", &jail.name);
    iov.text("path", &jail.path.to_string_lossy());
    iov.text("host.hostname", &jail.hostname);
    iov.flag("persist");
    if jail.vnet {
        iov.int("vnet", libc::JAIL_SYS_NEW);
    } else if !jail.addresses.is_empty() {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for address in &jail.addresses {
            match address {
                IpAddr::V4(address) => v4.extend(address.octets()),
                IpAddr::V6(address) => v6.extend(address.octets()),
            }
        }
        // A family it has no address of would else be the host's, whole.
        for (family, addresses) in [("ip4", v4), ("ip6", v6)] {
            if !addresses.is_empty() {
                iov.bytes(&format!("{family}.addr"), &addresses);
            } else if !jail.params.contains_key(family) {
                iov.int(family, libc::JAIL_SYS_DISABLE);
            }
        }
    }
    for (name, value) in &jail.params {
        // Set above, from what Warren decided.
        if !matches!(name.as_str(), "name" | "path" | "host.hostname" | "persist" | "vnet") {
            put(&mut iov, name, value)?;
        }
    }
    Ok(iov)
}

/// The module that brings a parameter, as libjail has it (`lib/libjail/jail.c`, `kldload_param`).
fn module_of(name: &str) -> Option<&str> {
    match name {
        "sysvmsg" | "sysvsem" | "sysvshm" => Some(name),
        _ if name == "linux" || name.starts_with("linux.") => Some("linux"),
        _ => name.strip_prefix("allow.mount."),
    }
}

/// What the kernel knows a parameter as. One that it would know with a module makes us load that, as jail(8) does.
fn kind(name: &str) -> Result<Option<Kind>, Failure> {
    if let Some(kind) = known(name)? {
        return Ok(Some(kind));
    }
    let Some(module) = module_of(name) else { return Ok(None) };
    match sysctl::load_module(module)
        .doing(|| format!("load the module {module} for the parameter {name}"))?
    {
        true => known(name),
        false => Ok(None),
    }
}

/// What the kernel knows a parameter as now.
fn known(name: &str) -> Result<Option<Kind>, Failure> {
    let look = |name: &str| {
        sysctl::kind(&format!("security.jail.param.{name}")).doing(|| format!("look up the parameter {name}"))
    };
    match look(name)? {
        // `host`, `allow.mount`: a node that is a parameter as well has a leaf with an empty name. The kernel takes one final dot
        // off (name2oid()), so there have to be two.
        Some(node) if node.ctltype == CTLTYPE_NODE => look(&format!("{name}..")),
        Some(kind) => Ok(Some(kind)),
        // `meta.KEY` and `env.KEY` of 15 are made by their use.
        None => match name.split_once('.') {
            Some(("meta" | "env", key)) if !key.is_empty() => {
                look(name.split('.').next().unwrap_or_default())
            }
            _ => Ok(None),
        },
    }
}

fn put(iov: &mut Iov, name: &str, value: &ParamValue) -> Result<(), Failure> {
    let (name, kind, negated) = match kind(name)? {
        Some(kind) => (name.to_owned(), kind, false),
        None => {
            let positive = positive(name);
            let found = positive.as_deref().map(kind).transpose()?.flatten();
            match (positive, found) {
                (Some(positive), Some(kind)) => (positive, kind, true),
                _ => {
                    return Err(Failure {
                        errno: Some(libc::EINVAL),
                        hint: Some(
                            "`sysctl -N security.jail.param` lists those of this kernel; there is no module either that brings it"
                                .into(),
                        ),
                        ..Failure::new(format!("unknown parameter: {name}"))
                    });
                }
            }
        }
    };
    let bad = |wanted: &str| Failure::new(format!("parameter {name}: {value:?} is not {wanted}"));
    // Of several values one that is no list takes the last, as in jail(8) (`usr.sbin/jail/config.c`, import_params).
    let last = match value {
        ParamValue::List(words) if !kind.format.starts_with("S,") => {
            words.last().map(|word| ParamValue::Text(word.clone()))
        }
        _ => None,
    };
    let value = last.as_ref().unwrap_or(value);
    match (kind.ctltype, kind.format.as_str()) {
        (_, "E,jailsys") => {
            let word = match value {
                ParamValue::Bool(on) if *on != negated => libc::JAIL_SYS_NEW,
                ParamValue::Bool(_) => libc::JAIL_SYS_DISABLE,
                ParamValue::Text(text) if !negated => match text.as_str() {
                    "new" => libc::JAIL_SYS_NEW,
                    "inherit" => libc::JAIL_SYS_INHERIT,
                    "disable" => libc::JAIL_SYS_DISABLE,
                    _ => return Err(bad("new, inherit or disable")),
                },
                _ => return Err(bad("new, inherit or disable")),
            };
            iov.int(&name, word);
        }
        (_, "B") => {
            iov.flag(&said(&name, negated, value).ok_or_else(|| bad("true or false"))?);
        }
        _ if negated => return Err(bad("a value of a parameter that can be negated")),
        (CTLTYPE_INT | CTLTYPE_UINT | CTLTYPE_LONG | CTLTYPE_ULONG, _) => {
            let number = match value {
                ParamValue::Int(number) => *number,
                ParamValue::Text(text) => text.parse().map_err(|_| bad("a number"))?,
                _ => return Err(bad("a number")),
            };
            if matches!(kind.ctltype, CTLTYPE_LONG | CTLTYPE_ULONG) {
                iov.bytes(&name, &number.to_ne_bytes());
            } else {
                iov.int(&name, i32::try_from(number).map_err(|_| bad("a number of 32 bits"))?);
            }
        }
        (CTLTYPE_STRING, _) => {
            let text = match value {
                ParamValue::Text(text) => text.clone(),
                ParamValue::Int(number) => number.to_string(),
                ParamValue::List(_) | ParamValue::Bool(_) => return Err(bad("a text")),
            };
            iov.text(&name, &text);
        }
        (_, format @ ("S,in_addr" | "S,in6_addr")) => {
            let words = match value {
                ParamValue::Text(text) => text.split(',').map(|word| word.trim().to_owned()).collect(),
                ParamValue::List(words) => words.clone(),
                _ => return Err(bad("a list of addresses")),
            };
            let mut bytes = Vec::new();
            for word in words {
                match (word.parse(), format) {
                    (Ok(IpAddr::V4(address)), "S,in_addr") => bytes.extend(address.octets()),
                    (Ok(IpAddr::V6(address)), "S,in6_addr") => bytes.extend(address.octets()),
                    _ => return Err(bad("a list of addresses of this family")),
                }
            }
            iov.bytes(&name, &bytes);
        }
        (ctltype, format) => {
            return Err(Failure::new(format!(
                "parameter {name}: the kernel says its type is {ctltype} ({format}), which Warren does not know"
            )));
        }
    }
    Ok(())
}
