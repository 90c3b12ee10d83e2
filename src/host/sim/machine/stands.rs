//! Whether what an operation makes is there: [`Op::Stands`].

use super::Machine;
use super::disk::point;
use crate::host::stands::{difference, no_alias, no_interface, no_jail, no_mount, other_jail};
use crate::host::{Failure, Jail, Op, Reply};

impl Machine {
    pub(super) fn stands(&self, made: &Op) -> Result<Reply, Failure> {
        match made {
            Op::JailCreate(jail) => self.jail_stands(jail),
            Op::Mount(mount) => match self.mounts.get(&point(mount)) {
                Some(there) if there == mount || self.covered.contains(mount) => Ok(Reply::Done),
                there => {
                    let found = there.map(|there| format!("{} ({})", there.source, there.fstype));
                    Err(no_mount(mount, &point(mount), found.as_deref()))
                }
            },
            Op::AliasAdd { interface, addresses } => {
                let missing = addresses.iter().find(|a| !self.aliases.contains(&(interface.clone(), **a)));
                match missing {
                    Some(address) => Err(no_alias(interface, *address)),
                    None => Ok(Reply::Aliases { added: addresses.clone() }),
                }
            }
            Op::IfMoveIn { interface, jail, .. } => {
                let there = self.eifaces.get(interface).and_then(|eiface| eiface.jail.as_ref());
                if there == Some(jail) { Ok(Reply::Done) } else { Err(no_interface(interface, jail)) }
            }
            Op::DatasetJail { jail, dataset }
                if !self.datasets.contains(&(dataset.clone(), jail.clone())) =>
            {
                Err(Failure::new(format!("the dataset {dataset} is not delegated to jail {jail}")))
            }
            _ => Ok(Reply::Done),
        }
    }

    fn jail_stands(&self, jail: &Jail) -> Result<Reply, Failure> {
        let there = self.jails.get(&jail.name).ok_or_else(|| no_jail(&jail.name))?;
        let mut differences = Vec::new();
        let mut compare = |what: &str, wanted: String, found: String| {
            if wanted != found {
                differences.push(difference(what, wanted, found));
            }
        };
        compare("path", jail.path.display().to_string(), there.path.display().to_string());
        compare("vnet", jail.vnet.to_string(), there.vnet.to_string());
        compare("ip4.addr and ip6.addr", format!("{:?}", jail.addresses), format!("{:?}", there.addresses));
        for name in
            jail.params.keys().chain(there.params.keys().filter(|name| !jail.params.contains_key(*name)))
        {
            compare(name, format!("{:?}", jail.params.get(name)), format!("{:?}", there.params.get(name)));
        }
        let inner = format!("{}.", jail.name);
        if let Some(child) = self.jails.keys().find(|name| name.starts_with(&inner)) {
            return Err(crate::host::stands::has_child(&jail.name, child));
        }
        match differences.is_empty() {
            true => Ok(Reply::Jail { jid: there.jid }),
            false => Err(other_jail(jail, &differences)),
        }
    }
}
