//! Whether what an operation makes is there already, as it would have made it: [`Op::Stands`]. Nothing is changed by it.

use super::failure::Context;
use super::host::Lab;
use super::{interfaces, mountinfo, mounts};
use crate::host::stands::{difference, no_alias, no_interface, no_jail, no_mount, other_jail};
use crate::host::{Failure, Jail, Mount, Op, Reply};

impl Lab {
    pub(super) fn stands(&self, made: &Op) -> Result<Reply, Failure> {
        match made {
            Op::JailCreate(wanted) => self.jail_stands(wanted),
            Op::Mount(wanted) => mount_stands(wanted).map(|()| Reply::Done),
            Op::AliasAdd { interface, addresses } => {
                let there = interfaces::with(None, |netlink| {
                    let index = netlink.index(interface)?;
                    let all = netlink.addresses()?.into_iter();
                    Ok(all.filter(|(of, _)| *of == index).map(|(_, address)| address).collect::<Vec<_>>())
                });
                let there = there.doing(|| format!("list the addresses of {interface}"))?;
                match addresses.iter().find(|address| !there.contains(address)) {
                    Some(address) => Err(no_alias(interface, *address)),
                    None => Ok(Reply::Aliases { added: addresses.clone() }),
                }
            }
            Op::IfMoveIn { interface, jail, inside } => {
                let there = self.network(jail)?.ok_or_else(|| no_jail(jail))?;
                let found = interfaces::with(Some(&there), |netlink| netlink.find(inside));
                match found.doing(|| format!("look for {inside} in {jail}"))? {
                    Some(_) => Ok(Reply::Done),
                    None => Err(no_interface(interface, jail)),
                }
            }
            _ => Ok(Reply::Done),
        }
    }

    /// Of a jail the lab remembers its root and whether it has a stack of its own; it has no parameters to compare.
    fn jail_stands(&self, wanted: &Jail) -> Result<Reply, Failure> {
        let jails = self.client.jails()?;
        let there = jails.get(&wanted.name).ok_or_else(|| no_jail(&wanted.name))?;
        let mut differences = Vec::new();
        if there.path != wanted.path {
            differences.push(difference("path", wanted.path.display(), there.path.display()));
        }
        if there.vnet != wanted.vnet {
            differences.push(difference("vnet", wanted.vnet, there.vnet));
        }
        match differences.is_empty() {
            true => Ok(Reply::Jail { jid: there.jid }),
            false => Err(other_jail(wanted, &differences)),
        }
    }
}

fn mount_stands(wanted: &Mount) -> Result<(), Failure> {
    let kind = mounts::Kind::of(wanted)?;
    // In the lab it is a link.
    if kind == mounts::Kind::Fdescfs {
        return Ok(());
    }
    let point = mounts::place(wanted)?;
    let there = mountinfo::at(&point).doing(|| format!("look for the mount on {}", point.display()))?;
    match there {
        Some(there) if mounts::is_ours(wanted, kind, &there, &point) => Ok(()),
        there => {
            let found = there.map(|there| format!("{} ({})", there.source, there.fstype));
            Err(no_mount(wanted, &point, found.as_deref()))
        }
    }
}
