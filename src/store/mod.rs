//! What Warren knows: a log of records in SQLite, of which memory is a pure fold.
//!
//! - [`record`] is the vocabulary: one record per fact.
//! - [`state`] folds records. DNS, DHCP leases and pf tables come from that fold and from nowhere else, so they cannot
//!   disagree.
//! - [`db`] is the file: WAL, one writer thread that commits in groups, versioned.

pub mod db;
pub mod record;
pub mod state;

pub use db::Store;
pub use record::{Record, Stage, Why, WhyKind};
pub use state::{InstanceUnit, NetworkUnit, ServiceState, State};
