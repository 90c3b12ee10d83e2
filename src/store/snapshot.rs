//! A unit's history, made short: what the fold has of it, as one record.
//!
//! A unit that stays up writes for ever: a health check that comes and goes, a clean-up that is tried again. The first record of
//! a unit stays where it is, since others refer to it and its place tells its age; one [`Snapshot`] stands for the rest.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::record::{Record, Stage, Why};
use super::state::{InstanceUnit, State, Unit};
use crate::host::Status;
use crate::ids::Id;
use crate::lifecycle::journal::{Journal, Left};

/// What became of a unit since it was planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// What was done of its plan.
    pub journal: Journal,
    /// Where in its life it is.
    pub stage: Stage,
    /// Why it goes down.
    pub why: Option<Why>,
    /// What a stop could not finish.
    pub left: Vec<Left>,
    /// What instances have beside; networks have none.
    pub instance: Option<OfInstance>,
}

/// What became of an instance beside. The fields are those of [`InstanceUnit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, clippy::struct_excessive_bools)]
pub struct OfInstance {
    pub named: bool,
    pub joined: bool,
    pub assigned: bool,
    pub refused: bool,
    pub exit: Option<Status>,
    pub leased: BTreeSet<usize>,
}

impl State {
    /// What stands for all records of a unit but its first and those of scopes within its own.
    #[must_use]
    pub fn snapshot(&self, id: Id) -> Option<Record> {
        // Taken apart whole: what is added to a unit is missed here.
        let Unit { plan: _, journal, stage, why, left } = self.unit(id)?;
        let instance = self.instances.get(&id).map(|unit| {
            let InstanceUnit {
                given: _,
                spec: _,
                unit: _,
                revision: _,
                born: _,
                named,
                joined,
                assigned,
                refused,
                exit,
                leased,
            } = unit;
            OfInstance {
                named: *named,
                joined: *joined,
                assigned: *assigned,
                refused: *refused,
                exit: *exit,
                leased: leased.clone(),
            }
        });
        let is = Snapshot {
            journal: journal.clone(),
            stage: *stage,
            why: why.clone(),
            left: left.clone(),
            instance,
        };
        Some(Record::Snapshot { unit: id, is: Box::new(is) })
    }
}
