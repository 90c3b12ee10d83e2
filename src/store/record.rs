//! The vocabulary of the store: one [`Record`] per fact.
//!
//! A record carries everything its fold needs, so that reading an old store back does not depend on today's clock,
//! configuration or code. Records of a unit are deleted when the unit is gone; what then remains still folds.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use warren_dhcp::ipam::Change as AddressChange;
use warren_dhcp::server::LeaseChange;

use crate::config::spec::{FabricSpec, InstanceSpec, NetworkSpec};
use crate::host::{Process, Status};
use crate::ids::Id;
use crate::lifecycle::journal::{Left, Mark, Way};
use crate::lifecycle::network::NetworkAssignment;
use crate::lifecycle::plan::Assignment;
use crate::lifecycle::step::{Phase, Plan};
use crate::store::snapshot::Snapshot;

/// The step that gives an instance's addresses and links back.
pub const RELEASE: &str = "release";

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "record")]
pub enum Record {
    /// The machine runs under this boot id.
    Boot {
        /// The host's boot id.
        id: String,
    },
    /// A fabric was declared, or declared anew.
    Fabric {
        /// What is wanted.
        spec: Box<FabricSpec>,
        /// Larger than any before: given to the services whose instances are outdated by it.
        revision: u64,
        /// The revisions of all services from here on, also of those no longer wanted that still have instances: the record
        /// stands for every earlier one of its fabric. Empty in those of version 2, which were kept one after another.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        revisions: BTreeMap<String, u64>,
    },
    /// A service is wanted in another number.
    Scale {
        /// The fabric.
        fabric: String,
        /// The service.
        service: String,
        /// How many.
        replicas: u32,
    },
    /// Nothing of the fabric is wanted any more.
    Drop {
        /// The fabric.
        fabric: String,
    },
    /// Nothing of the fabric is left.
    FabricGone {
        /// The fabric.
        fabric: String,
    },
    /// How a service's attempts went: decides when the next one may be.
    Trouble {
        /// The fabric.
        fabric: String,
        /// The service.
        service: String,
        /// Failures in a row.
        failures: u32,
        /// No new instance before this time, milliseconds since the epoch.
        not_before: u64,
        /// Whether no further attempt is made.
        halted: bool,
        /// What the last failure was.
        text: Option<String>,
    },
    /// How the attempts to bring a network up went.
    NetworkTrouble {
        /// The fabric.
        fabric: String,
        /// The network's name.
        network: String,
        /// Failures in a row.
        failures: u32,
        /// No further attempt before this time, milliseconds since the epoch.
        not_before: u64,
        /// What the last failure was.
        text: String,
    },
    /// A network is to come up.
    Network {
        /// Its numbers.
        given: NetworkAssignment,
        /// What it is.
        spec: NetworkSpec,
        /// How.
        plan: Plan,
    },
    /// An instance is to come up.
    Instance {
        /// Its numbers.
        given: Box<Assignment>,
        /// What it is: used until it is gone, whatever becomes of the file.
        spec: Box<InstanceSpec>,
        /// How.
        plan: Plan,
        /// The service's revision it was made from; none: not a replica, but a one-off run.
        revision: Option<u64>,
    },
    /// The address books changed.
    Address {
        /// How.
        change: AddressChange,
    },
    /// A step of a unit's plan.
    Step {
        /// The unit.
        unit: Id,
        /// Which way.
        way: Way,
        /// The step.
        key: String,
        /// What became of it.
        mark: Mark,
    },
    /// A step that was in doubt was taken back, and will be done again.
    TakenBack {
        /// The unit.
        unit: Id,
        /// The step.
        key: String,
    },
    /// A unit's stage changed.
    Turn {
        /// The unit.
        unit: Id,
        /// To this.
        stage: Stage,
        /// Why, for stops.
        why: Option<Why>,
    },
    /// What a stop could not finish; the unit's stage is `failed`.
    Left {
        /// The unit.
        unit: Id,
        /// All of it.
        left: Vec<Left>,
    },
    /// What failed on the way down is to be tried again.
    Retry {
        /// The unit.
        unit: Id,
    },
    /// The machine was rebooted under the unit.
    Rebooted {
        /// The unit.
        unit: Id,
    },
    /// A hook's process: it exists and will exec once this is durable.
    Job {
        /// The unit.
        unit: Id,
        /// The job's id.
        job: String,
        /// Its process group.
        process: Process,
    },
    /// The main process ended.
    Exit {
        /// The unit.
        unit: Id,
        /// How.
        status: Status,
    },
    /// A DHCP client inside acknowledged its addresses on a link.
    Leased {
        /// The unit.
        unit: Id,
        /// The link's place in the assignment.
        link: usize,
    },
    /// An address that the LAN gave was seen on a link: the numbers with it, and the plan they make.
    Learned {
        /// The numbers.
        given: Box<Assignment>,
        /// The plan from here on; its steps have the same keys.
        plan: Plan,
    },
    /// The DHCP server of a network promises something, or takes note.
    Lease {
        /// The network.
        network: Id,
        /// What.
        change: LeaseChange,
    },
    /// All that was written of the unit since it was planned, made short.
    Snapshot {
        /// The unit.
        unit: Id,
        /// What became of it.
        is: Box<Snapshot>,
    },
    /// Nothing of the unit is left.
    Gone {
        /// The unit.
        unit: Id,
    },
}

/// Where in its life a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It has numbers and a plan; its first effect is to come.
    Planned,
    /// On the way up.
    Starting,
    /// Up, and not yet or no longer ready.
    Running,
    /// Joining its service.
    Joining,
    /// Ready, and known under the service's name.
    Ready,
    /// Leaving its service, because a health check failed.
    Leaving,
    /// On the way down.
    Stopping,
    /// Down, but for what [`Record::Left`] names.
    Failed,
}

impl Stage {
    /// As people and `--json` see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Starting => "starting",
            Self::Running | Self::Joining | Self::Leaving => "running",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
            Self::Failed => "failed",
        }
    }

    /// Whether it counts as a replica.
    #[must_use]
    pub fn is_wanted(self) -> bool {
        !matches!(self, Self::Stopping | Self::Failed)
    }
}

/// Why a unit goes down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// What kind of reason.
    pub kind: WhyKind,
    /// For a failed start, the phase that failed; hooks see it as `WARREN_FAILED_PHASE`.
    pub phase: Option<Phase>,
    /// In words; hooks see it as `WARREN_REASON`.
    pub text: String,
}

/// The kinds of reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhyKind {
    /// Somebody asked for it.
    Asked,
    /// Fewer replicas, or a new revision.
    Replaced,
    /// A step of the start failed.
    StartFailed,
    /// Its main process ended.
    Ended,
    /// It did not become ready in time, or ceased to be for good.
    Unhealthy,
    /// The machine was rebooted.
    Rebooted,
    /// The jail went away without Warren.
    Vanished,
}

impl Record {
    /// What the record belongs to: records of one scope are deleted together.
    #[must_use]
    pub fn scope(&self) -> Scope {
        match self {
            Self::Boot { .. } => Scope::Boot,
            Self::Fabric { spec, .. } => Scope::Fabric(spec.name.clone()),
            Self::FabricGone { fabric } => Scope::Fabric(fabric.clone()),
            Self::Drop { fabric } => Scope::Part(fabric.clone(), "drop", String::new()),
            Self::Scale { fabric, service, .. } => Scope::Part(fabric.clone(), "scale", service.clone()),
            Self::Trouble { fabric, service, .. } => Scope::Part(fabric.clone(), "trouble", service.clone()),
            Self::NetworkTrouble { fabric, network, .. } => {
                Scope::Part(fabric.clone(), "network-trouble", network.clone())
            }
            Self::Network { given, .. } => Scope::Unit(given.id),
            Self::Instance { given, .. } => Scope::Unit(given.id),
            Self::Learned { given, .. } => Scope::Learned(given.id),
            Self::Address { .. } => Scope::Addresses,
            Self::Lease { network, change } => Scope::Lease(*network, leased_address(change)),
            Self::Step { unit, .. }
            | Self::TakenBack { unit, .. }
            | Self::Turn { unit, .. }
            | Self::Left { unit, .. }
            | Self::Retry { unit }
            | Self::Rebooted { unit }
            | Self::Job { unit, .. }
            | Self::Exit { unit, .. }
            | Self::Leased { unit, .. }
            | Self::Snapshot { unit, .. }
            | Self::Gone { unit } => Scope::Unit(*unit),
        }
    }

    /// Whether it ends its scope: nothing of the scope, itself included, need be kept.
    #[must_use]
    pub fn ends_scope(&self) -> bool {
        matches!(self, Self::Gone { .. } | Self::FabricGone { .. })
    }

    /// Whether it makes every earlier record of its scope superfluous, and of the scopes within it.
    #[must_use]
    pub fn begins_scope(&self) -> bool {
        match self {
            Self::Fabric { .. } => true,
            // The end of a lease says nothing of what it was.
            Self::Lease { change, .. } => {
                matches!(change, LeaseChange::Bound(_) | LeaseChange::Declined { .. })
            }
            other => matches!(other.scope(), Scope::Boot | Scope::Part(..) | Scope::Learned(_)),
        }
    }

    /// Whether it takes the place of the oldest record that it makes superfluous, not one at the end: what was written since
    /// refers to it.
    #[must_use]
    pub fn takes_place(&self) -> bool {
        matches!(self, Self::Fabric { .. })
    }

    /// Whether a [`Record::Snapshot`] of its unit makes it superfluous.
    #[must_use]
    pub fn is_in_snapshot(&self) -> bool {
        // What gave addresses and links back stays where it was: others may have them since.
        let stays = match self {
            Self::Network { .. } | Self::Instance { .. } => true,
            Self::Step { key, .. } => key == RELEASE,
            _ => false,
        };
        matches!(self.scope(), Scope::Unit(_)) && !stays
    }
}

/// What a record belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// The machine.
    Boot,
    /// A fabric, with its parts.
    Fabric(String),
    /// A part of a fabric, of a kind and a name: the last word about it is enough.
    Part(String, &'static str, String),
    /// The address books.
    Addresses,
    /// A unit, with everything of its sub-scopes.
    Unit(Id),
    /// What a LAN gave an instance: the last word is enough.
    Learned(Id),
    /// An address of a network: its last lease, and how that ended, are enough.
    Lease(Id, Ipv4Addr),
}

fn leased_address(change: &LeaseChange) -> Ipv4Addr {
    match change {
        LeaseChange::Bound(lease) => lease.address,
        LeaseChange::Released { address, .. }
        | LeaseChange::Expired { address, .. }
        | LeaseChange::Declined { address, .. } => *address,
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Boot => f.write_str("boot"),
            Self::Fabric(name) => write!(f, "fabric:{name}"),
            Self::Part(fabric, kind, name) => write!(f, "fabric:{fabric}/{kind}/{name}"),
            Self::Addresses => f.write_str("addresses"),
            Self::Unit(id) => write!(f, "unit:{id}"),
            Self::Learned(id) => write!(f, "unit:{id}/learned"),
            Self::Lease(network, address) => write!(f, "unit:{network}/lease/{address}"),
        }
    }
}
