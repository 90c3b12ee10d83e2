//! What the lab's cases share: a harness that runs each in a process of its own, and instances to play with.

pub mod harness;
pub mod instance;
