//! The FreeBSD host on a real FreeBSD: every operation in the order of the engine's plan, and back, as root.
//!
//! Run it by `tests/freebsd/runner`, which ships it into a throw-away guest. It changes the machine it runs on. Each case begins and
//! ends with nothing of ours on the machine; the host's own observation is the judge.

#[cfg(not(target_os = "freebsd"))]
fn main() {
    println!("the FreeBSD host is tested on FreeBSD only: see tests/freebsd/runner");
}

#[cfg(target_os = "freebsd")]
mod cases;
#[cfg(target_os = "freebsd")]
mod flags;
#[cfg(target_os = "freebsd")]
mod jails;
#[cfg(target_os = "freebsd")]
mod mounts;
#[cfg(target_os = "freebsd")]
mod networks;
#[cfg(target_os = "freebsd")]
mod rig;

#[cfg(target_os = "freebsd")]
fn main() -> std::process::ExitCode {
    cases::main()
}
