//! Anchors and their tables.

use super::{Done, ENOENT, ESRCH, Machine, error};
use crate::host::Op;

impl Machine {
    pub(super) fn filter(&mut self, op: &Op) -> Done {
        match op {
            Op::AnchorLoad(policy) => {
                let anchor = self.anchors.entry(policy.anchor.clone()).or_default();
                for service in &policy.services {
                    anchor.tables.entry(service.table.clone()).or_default();
                }
                (anchor.policy, anchor.edited) = (Some(policy.clone()), false);
                Ok(())
            }
            Op::AnchorRemove { anchor } => {
                self.anchors.remove(anchor);
                Ok(())
            }
            Op::TableAdd { anchor, tables, addresses } => {
                let loaded = self.anchors.get_mut(anchor);
                let loaded = loaded.ok_or_else(|| error(ENOENT, format!("anchor {anchor} is not loaded")))?;
                for table in tables {
                    // Only what the rules declare, as in pf and nft.
                    let members = loaded.tables.get_mut(table);
                    let missing = || error(ESRCH, format!("there is no table {table} in {anchor}"));
                    members.ok_or_else(missing)?.extend(addresses);
                }
                Ok(())
            }
            Op::TableRemove { anchor, tables, addresses } => {
                for table in tables {
                    if let Some(members) = self.anchors.get_mut(anchor).and_then(|a| a.tables.get_mut(table))
                    {
                        members.retain(|a| !addresses.contains(a));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
