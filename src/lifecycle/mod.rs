//! The life of an instance and of a network: a plan that is data, a journal of what was done of it, and the rules between.
//!
//! - [`plan`] makes a [`Plan`](step::Plan) from a resolved spec: pure, printed by `warren plan`, stored with the unit.
//! - [`step`] says what a plan consists of.
//! - [`journal`] remembers which steps began and how they ended, and from plan and journal alone says what comes next.
//!
//! - [`drift`] compares what should be there with what is.
//! - [`import`] takes over what somebody else started.
//! - [`engine`] carries plans out: a state machine without effects.
//!
//! A failed start is the stop plan entered where the start got to; a recovery is the same two functions called on a
//! journal read back from the store. There is no second way down.

pub mod drift;
pub mod engine;
pub mod import;
pub mod journal;
pub mod network;
pub mod plan;
pub mod step;
