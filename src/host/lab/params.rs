//! Kernel parameters of jails. The lab enforces none of them but knows their names, so that a misspelled one is refused here as
//! it would be on FreeBSD: "unknown parameter: X" (jail_set(2) with errmsg).

use std::collections::BTreeMap;

use crate::config::spec::ParamValue;
use crate::host::Failure;
use crate::host::booleans::positive;

/// What jail(8) of 13.2 to 15 documents and the lab may ignore without harm.
const KNOWN: &[&str] = &[
    "allow.adjtime",
    "allow.chflags",
    "allow.extattr",
    "allow.mlock",
    "allow.mount",
    "allow.mount.devfs",
    "allow.mount.fdescfs",
    "allow.mount.fusefs",
    "allow.mount.lindebugfs",
    "allow.mount.linprocfs",
    "allow.mount.linsysfs",
    "allow.mount.nullfs",
    "allow.mount.p9fs",
    "allow.mount.procfs",
    "allow.mount.tmpfs",
    "allow.mount.zfs",
    "allow.nfsd",
    "allow.quotas",
    "allow.raw_sockets",
    "allow.read_msgbuf",
    "allow.reserved_ports",
    "allow.routing",
    "allow.set_hostname",
    "allow.setaudit",
    "allow.settime",
    "allow.socket_af",
    "allow.suser",
    "allow.sysvipc",
    "allow.unprivileged_parent_tampering",
    "allow.unprivileged_proc_debug",
    "allow.vmm",
    "allow.vmm_ppt",
    "children.max",
    "devfs_ruleset",
    "enforce_statfs",
    "host",
    "host.domainname",
    "host.hostid",
    "host.hostuuid",
    "ip4",
    "ip4.saddrsel",
    "ip6",
    "ip6.saddrsel",
    "jid",
    "linux",
    "linux.osname",
    "linux.osrelease",
    "linux.oss_version",
    "osreldate",
    "osrelease",
    "securelevel",
    "sysvmsg",
    "sysvsem",
    "sysvshm",
    "zfs",
    "zfs.mount_snapshot",
];

/// Refuses names that no FreeBSD kernel knows, and those that FreeBSD has read-only.
pub fn check(params: &BTreeMap<String, ParamValue>) -> Result<(), Failure> {
    for name in params.keys() {
        let positive = positive(name);
        let known = |name: &str| KNOWN.contains(&name);
        let free = ["meta", "env"].iter().any(|word| {
            name.strip_prefix(word)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') && rest.len() > 1)
        });
        if !known(name) && !free && !positive.is_some_and(|name| known(&name)) {
            let text = format!("unknown parameter: {name}");
            return Err(Failure { errno: Some(libc::EINVAL), ..Failure::new(text) });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str) -> Result<(), Failure> {
        check(&BTreeMap::from([(name.to_owned(), ParamValue::Bool(true))]))
    }

    #[test]
    fn names_are_told_apart_as_the_kernel_does() {
        for name in [
            "allow.raw_sockets",
            "allow.noraw_sockets",
            "allow.mount.nodevfs",
            "meta.owner",
            "env",
            "sysvshm",
        ] {
            assert_eq!(one(name), Ok(()), "{name}");
        }
        for name in ["allow.raw_socket", "meta.", "metadata", "allow.no", "no", "children.cur", "nohost.no"] {
            assert_eq!(one(name).unwrap_err().message, format!("unknown parameter: {name}"));
        }
    }
}
