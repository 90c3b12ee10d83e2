//! The main job on the lab, with real processes, frames and third-party clients. Linux only, as root.
//!
//! Every test has a state directory, and so a machine, of its own. Where it cannot run it says so; under `CI=true` that is a failure.
#![cfg(target_os = "linux")]

mod clients;
mod crashes;
mod drift;
mod failures;
mod lab;
mod many;
