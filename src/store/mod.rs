//! What Warren knows: a log of records in SQLite, of which memory is a pure fold.
//!
//! - [`record`] is the vocabulary: one record per fact.
//! - [`state`] folds records. DNS, DHCP leases and pf tables come from that fold and from nowhere else, so they cannot
//!   disagree.
//! - [`db`] is the file: WAL, one writer thread that commits in groups. `schema` has its versions, and the way from each to the next.
//! - [`snapshot`] makes the history of a unit short.
//! - [`backup`] copies it while it is written, and puts a copy back.

pub mod backup;
pub mod db;
pub mod fuzz;
pub mod record;
mod schema;
pub mod snapshot;
pub mod state;

pub use db::Store;
pub use record::{Record, Stage, Why, WhyKind};
pub use schema::VERSION;
pub use state::{InstanceUnit, NetworkUnit, ServiceState, State};
