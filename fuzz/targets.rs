//! Everything of Warren that reads bytes of strangers, by name. The fuzz targets (`fuzz_targets/`) and the replay under
//! `cargo test` (`tests/hostile_input.rs`) both go by this list, so neither can forget one.
//!
//! A new entry: a line here, a file in `fuzz_targets/` with its `[[bin]]`, and a seed in `tests/hostile_input.rs`, which fails
//! without one.

use std::path::PathBuf;

/// A reader of strangers' bytes: its name, and the entry, which takes any bytes and panics only when a promise is broken.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("config", warren::config::fuzz),
    ("fstab", warren::config::fuzz_fstab),
    ("jail_conf", warren::config::jailconf::fuzz),
    ("api_body", warren::daemon::api::fuzz::fuzz),
    ("store_records", warren::store::fuzz::records),
    ("store_file", store_file),
    ("keeper_frame", warren::keeper::wire::fuzz_decoder),
    ("firewall", warren::firewall::fuzz::fuzz),
    ("netgraph_message", warren_netgraph::codec::fuzz),
    ("netgraph_graph", warren_netgraph::userland::fuzz::fuzz),
    ("link_guard", warren_netgraph::guard::fuzz),
    ("dhcp_message", warren_dhcp::wire::fuzz_message),
    ("dhcp_server", warren_dhcp::server::fuzz::fuzz),
    ("dns", warren_dns::fuzz::fuzz),
];

/// Runs one of them.
///
/// # Panics
/// When there is no such target, and when a promise is broken.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(n, _)| *n == name);
    target.unwrap_or_else(|| panic!("no fuzz target is called {name}")).1(data);
}

/// The store is a file: in memory where the system has a place for it, one for each thread.
fn store_file(data: &[u8]) {
    thread_local! {
        static PLACE: PathBuf = {
            let shm = PathBuf::from("/dev/shm");
            let base = if shm.is_dir() { shm } else { std::env::temp_dir() };
            let thread = format!("{:?}", std::thread::current().id());
            let number: String = thread.chars().filter(char::is_ascii_digit).collect();
            base.join(format!("warren-fuzz-{}-{number}.db", std::process::id()))
        };
    }
    PLACE.with(|place| {
        warren::store::fuzz::file(data, place);
        for end in ["", "-wal", "-shm", "-journal"] {
            let _ = std::fs::remove_file(format!("{}{end}", place.display()));
        }
    });
}
