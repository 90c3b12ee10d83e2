//! The lab as a host, by its operations: clones, mounts, jails, links, addresses, rules, relays; and what is left of it.

#[cfg(target_os = "linux")]
mod lab_cases;
#[cfg(target_os = "linux")]
mod lab_support;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    lab_support::harness::main(&lab_cases::all())
}

#[cfg(not(target_os = "linux"))]
fn main() {}
