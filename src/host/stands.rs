//! What hosts say of what should stand and does not ([`Op::Stands`](super::Op::Stands)): one wording for all of them.

use std::path::Path;

use ipnet::IpNet;

use super::{Failure, Jail, Mount};

/// There is no such jail; told apart from other reasons by its number, ENOENT.
pub(super) fn no_jail(jail: &str) -> Failure {
    Failure { errno: Some(libc::ENOENT), ..Failure::new(format!("jail {jail} does not run")) }
        .hint("`warren up --jail-conf FILE NAME` starts it")
}

/// What is below it would go with it, and Warren does not know how that came to be.
pub(super) fn has_child(jail: &str, child: &str) -> Failure {
    Failure::new(format!("jail {jail} has the child jail {child}"))
        .hint("stop the child by what started it; `warren up --jail-conf` starts both again, in order")
}

/// A jail that was removed and that something still holds.
#[cfg(target_os = "freebsd")]
pub(super) fn is_dying(jail: &str) -> Failure {
    Failure::new(format!("jail {jail} is dying: it was removed, and something still holds it"))
        .hint("`jls -d` shows when it is gone; then bring it up with Warren")
}

/// The jail is another one than the file's.
pub(super) fn other_jail(jail: &Jail, differences: &[String]) -> Failure {
    Failure::new(format!("jail {} is not what the file says: {}", jail.name, differences.join("; ")))
        .hint("mend the file, or stop the jail by what started it and bring it up with Warren")
}

/// What differs where both can be printed.
pub(super) fn difference(
    what: &str,
    wanted: impl std::fmt::Display,
    found: impl std::fmt::Display,
) -> String {
    format!("{what} is {found}, not {wanted}")
}

/// A mount that is missing, or another one; `found` is what is there.
pub(super) fn no_mount(mount: &Mount, point: &Path, found: Option<&str>) -> Failure {
    let access = if mount.read_only { ", read-only" } else { "" };
    let wanted = format!("{} ({}{access})", mount.source, mount.fstype);
    let message = match found {
        None => format!("{wanted} is not mounted on {}", point.display()),
        Some(found) => format!("{} is a mount of {found}, not of {wanted}", point.display()),
    };
    Failure::new(message).hint("mount it as the file says, or take it out of the file")
}

/// An address the file gives the jail on an interface of the host, and that is not there.
pub(super) fn no_alias(interface: &str, address: IpNet) -> Failure {
    Failure::new(format!("the address {address} is not on {interface}"))
        .hint("`ifconfig INTERFACE alias` adds it; jail(8) does so at start")
}

/// A `vnet.interface` that is not in the jail.
pub(super) fn no_interface(interface: &str, jail: &str) -> Failure {
    Failure::new(format!("the interface {interface} is not in jail {jail}"))
        .hint("`ifconfig INTERFACE vnet JAIL` moves it there; jail(8) does so at start")
}
