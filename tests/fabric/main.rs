//! The main job with real processes, frames and third-party clients: on the lab of a Linux machine, and on FreeBSD itself. As root.
//!
//! On Linux every test has a machine of its own. On FreeBSD they share one, so they run one after the other (`tests/freebsd/runner`
//! says `--test-threads=1`) on a machine that may be changed. Where a test cannot run it says so; under `CI=true` that is a failure.
#![cfg(any(target_os = "linux", target_os = "freebsd"))]

#[cfg(target_os = "linux")]
mod clients;
mod crashes;
#[cfg(target_os = "linux")]
#[path = "../support/dice.rs"]
mod dice;
mod drift;
mod failures;
#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg_attr(target_os = "linux", path = "host_lab.rs")]
#[cfg_attr(target_os = "freebsd", path = "host_freebsd.rs")]
mod host;
#[cfg(target_os = "linux")]
mod hostile;
#[cfg(target_os = "linux")]
mod import;
#[cfg(target_os = "linux")]
mod kills;
mod lab;
#[cfg(target_os = "linux")]
mod machine;
#[cfg(target_os = "linux")]
mod many;
mod paths;
#[cfg(target_os = "linux")]
mod questions;
mod run;
mod strangers;
mod traffic;
#[cfg(target_os = "linux")]
mod upgrade;
