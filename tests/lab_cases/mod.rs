//! The cases.

use crate::lab_support::harness::{Case, nothing};

mod files;
mod links;
mod machine;
mod outside;
mod races;
mod shortage;

pub fn all() -> Vec<Case> {
    let case = |name, inside| Case { name, inside, outside: nothing, user_too: true };
    vec![
        case(
            "a_jail_on_a_clone_of_the_host_runs_a_process",
            files::a_jail_on_a_clone_of_the_host_runs_a_process,
        ),
        case("clones_do_not_see_each_other", files::clones_do_not_see_each_other),
        case("a_link_in_the_way_of_a_mount_is_refused", files::a_link_in_the_way_of_a_mount_is_refused),
        case(
            "a_mount_never_goes_where_a_racing_link_points",
            races::a_mount_never_goes_where_a_racing_link_points,
        ),
        case(
            "nothing_is_unmounted_or_written_where_a_racing_link_points",
            races::nothing_is_unmounted_or_written_where_a_racing_link_points,
        ),
        case("binds_are_verified_and_volumes_survive", files::binds_are_verified_and_volumes_survive),
        case("a_shared_root_may_be_mounted_upon", files::a_shared_root_may_be_mounted_upon),
        case(
            "directories_are_cloned_and_shared_ones_kept",
            files::directories_are_cloned_and_shared_ones_kept,
        ),
        case("processes_are_ended_and_counted", files::processes_are_ended_and_counted),
        case("what_is_refused", files::what_is_refused),
        case("half_made_things_are_undone", links::half_made_things_are_undone),
        case("neighbours_talk_and_others_do_not_hear", links::neighbours_talk_and_others_do_not_hear),
        case("a_stolen_address_is_dropped", links::a_stolen_address_is_dropped),
        case("an_interface_moves_in_and_home", links::an_interface_moves_in_and_home),
        case("frames_reach_a_hook_of_the_bridge", links::frames_reach_a_hook_of_the_bridge),
        case("aliases_tell_which_were_new", links::aliases_tell_which_were_new),
        Case {
            name: "published_ports_and_dns_reach_the_machine",
            inside: outside::inside,
            outside: outside::outside,
            user_too: true,
        },
        Case {
            name: "a_taken_port_is_named",
            inside: outside::taken_inside,
            outside: outside::taken_outside,
            user_too: false,
        },
        Case {
            name: "what_a_dead_daemon_leaves_goes_on",
            inside: outside::daemon_inside,
            outside: outside::daemon_outside,
            user_too: true,
        },
        Case {
            name: "what_cannot_be_counted_is_not_gone",
            inside: shortage::inside,
            outside: shortage::outside,
            user_too: false,
        },
        Case {
            name: "killing_the_kernel_is_a_reboot",
            inside: machine::inside,
            outside: machine::outside,
            user_too: true,
        },
    ]
}
