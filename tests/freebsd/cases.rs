//! The cases, one after the other in one process, as they share the machine.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use warren::host::Host;
use warren::host::freebsd::FreeBsd;

use super::rig::{Rig, STATE};
use super::{flags, jails, mounts, networks};

/// A case by its name.
type Case = (&'static str, fn(&Rig));

pub fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [verb, option, dir] = arguments.as_slice()
        && verb == "keeper"
        && option == "--state-dir"
    {
        return match warren::keeper::run(Path::new(dir)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                eprintln!("{failure}");
                ExitCode::FAILURE
            }
        };
    }
    let all: &[Case] = &[
        ("two_jails_on_a_bridge_talk", jails::two_jails_on_a_bridge_talk),
        ("the_packet_filter_does_as_told", networks::the_packet_filter_does_as_told),
        ("frames_arrive_at_a_hook", networks::frames_arrive_at_a_hook),
        ("an_uplink_is_put_back", networks::an_uplink_is_put_back),
        ("shared_addresses_are_aliases", networks::shared_addresses_are_aliases),
        ("mounts_follow_no_links", mounts::mounts_follow_no_links),
        (
            "a_mount_never_stays_where_a_racing_link_points",
            mounts::a_mount_never_stays_where_a_racing_link_points,
        ),
        (
            "nothing_is_unmounted_or_written_where_a_racing_link_points",
            mounts::nothing_is_unmounted_or_written_where_a_racing_link_points,
        ),
        ("a_mount_that_hangs_holds_up_no_other", mounts::a_mount_that_hangs_holds_up_no_other),
        ("what_a_jail_mounts_itself_is_unmounted", mounts::what_a_jail_mounts_itself_is_unmounted),
        ("child_jails_and_stubborn_processes_die", jails::child_jails_and_stubborn_processes_die),
        ("who_enters_a_jail_is_traced_by_nobody_there", jails::who_enters_a_jail_is_traced_by_nobody_there),
        ("undoing_half_of_it_leaves_nothing", jails::undoing_half_of_it_leaves_nothing),
        ("what_flags_hold_fast_is_removed", flags::what_flags_hold_fast_is_removed),
    ];
    let rig = Rig { host: FreeBsd::open(Path::new(STATE)).unwrap() };
    let again = FreeBsd::open(Path::new(STATE)).unwrap();
    assert_eq!(rig.host.boot_id(), again.boot_id());
    let mut bad = 0;
    for &(name, case) in all {
        if arguments.first().is_some_and(|wanted| !name.contains(wanted.as_str())) {
            continue;
        }
        let begin = Instant::now();
        println!("=== {name}");
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            case(&rig);
            rig.assert_nothing();
        }));
        println!(
            "{} {name} ({} ms)",
            if done.is_ok() { "ok" } else { "FAILED" },
            begin.elapsed().as_millis()
        );
        if done.is_err() {
            bad += 1;
            println!("left: {:#?}", rig.host.observe(&[]));
            rig.clean();
        }
    }
    println!("{bad} failed");
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
