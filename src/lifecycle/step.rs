//! What a plan consists of: steps in order, each one effect, and what takes them back.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::host::Op;

/// The phases of a start, in order. The order of the variants is the order of the lifecycle (DESIGN.md, "Lifecycle").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The name of a jail that keeps its own is free.
    Claim,
    /// exec.prepare.
    Prepare,
    /// The clone of the template.
    Clone,
    /// Aliases of shared-IP jails.
    Alias,
    /// mount, mount.fstab, devfs, fdescfs, procfs.
    Mount,
    /// exec.prestart.
    Prestart,
    /// The jail itself; for a network, the bridge.
    Create,
    /// exec.created.
    Created,
    /// zfs.dataset.
    Dataset,
    /// The eiface and its link to the bridge, closed.
    Link,
    /// The interface goes into the jail.
    Move,
    /// lo0, addresses, routes.
    Configure,
    /// The link opens: filter and seeded MAC.
    Open,
    /// resolv.conf and hosts.
    Files,
    /// The instance's own name.
    Name,
    /// The packet filter's anchor of a network. An instance needs none of its own: NAT goes by the network's prefix, and the
    /// guard on its link lets nothing out but its own addresses.
    Egress,
    /// exec.start.
    Start,
    /// The main process.
    Command,
    /// exec.poststart.
    Poststart,
    /// The service's name and the published ports.
    Join,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Claim => "claim",
            Self::Prepare => "exec.prepare",
            Self::Clone => "clone",
            Self::Alias => "aliases",
            Self::Mount => "mounts",
            Self::Prestart => "exec.prestart",
            Self::Create => "create",
            Self::Created => "exec.created",
            Self::Dataset => "zfs.dataset",
            Self::Link => "link",
            Self::Move => "interface",
            Self::Configure => "addresses",
            Self::Open => "open link",
            Self::Files => "files",
            Self::Name => "name",
            Self::Egress => "packet filter",
            Self::Start => "exec.start",
            Self::Command => "command",
            Self::Poststart => "exec.poststart",
            Self::Join => "join service",
        })
    }
}

/// One effect of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Act {
    /// On the machine.
    Host(Op),
    /// In the fabric's own books, from which DNS and leases are made.
    Book(Book),
}

/// A change of the fabric's books: no effect on the machine, and it cannot fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Book {
    /// `<id>.<service>.<zone>` appears.
    NamePublish,
    /// It disappears.
    NameWithdraw,
    /// The instance's addresses appear under the service's name.
    Join,
    /// They disappear.
    Leave,
    /// Addresses, MACs and link numbers go back to their pools.
    Release,
}

/// A step up: of a start, or of becoming ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Unique in the plan: `mount.2`, `hook.prestart.0`.
    pub key: String,
    /// Where in the order it stands.
    pub phase: Phase,
    /// What it does.
    pub act: Act,
}

/// A step down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undo {
    /// Unique in the plan.
    pub key: String,
    /// What it does.
    pub act: Act,
    /// Whether there is anything to take back.
    pub when: When,
    /// Steps down that must have succeeded (or had nothing to do): an undo that depends on a failed one is not run.
    pub needs: Vec<String>,
    /// What a failure means.
    pub failure: OnFailure,
}

impl Undo {
    /// Whether a reboot does its work: what it takes back lived in the kernel only.
    #[must_use]
    pub fn is_volatile(&self) -> bool {
        match &self.act {
            Act::Book(_) => false,
            Act::Host(Op::Run(job)) => {
                job.jail.is_some()
                    || self.when != When::Reached(Phase::Prepare)
                        && self.when != When::Reached(Phase::Prestart)
            }
            Act::Host(op) => !op.is_durable(),
        }
    }
}

/// The condition of a step down, seen from how far the start got.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// The step up of this key began, whatever became of it.
    Began(String),
    /// A step of this phase or a later one began: pairs a hook with its undoing hook even where the first is not declared.
    Reached(Phase),
}

/// What the failure of a step down means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnFailure {
    /// It is reported; the teardown goes on, and the unit can be gone nevertheless (exec.prestop, exec.stop).
    Report,
    /// It is reported; what needs it is not run, and the unit stays `failed` until `warren repair` succeeds.
    Keep,
    /// The stop ends there and the instance goes on running: `on_stop_failure = "abort"`, for stops that were asked for.
    Abort,
}

/// All of it: how a unit comes up, becomes ready, ceases to be ready, goes down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The start, in order.
    pub up: Vec<Step>,
    /// Becoming ready. May be done and taken back many times.
    pub join: Vec<Step>,
    /// The stop, in order. Steps that take back `join` stand in it too, marked by [`Plan::leave`].
    pub down: Vec<Undo>,
    /// Keys of the steps in `down` that take back `join`.
    pub leave: Vec<String>,
}
