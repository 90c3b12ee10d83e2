//! What is changed behind Warren's back is seen at the next look: put right if it is ours, told of if it cannot be, left alone if
//! it is somebody else's.

use std::time::Duration;

use warren::host::sim::{Behaviour, Machine};
use warren::host::{Op, Status};
use warren::ids::Id;
use warren::lifecycle::engine::Command;
use warren::store::Stage;

use crate::check;
use crate::faults::A_LOOK;
use crate::scenario::{Stand, everything};
use crate::support::{World, declare};

// The numbers of FreeBSD's errno(2).
const ENOENT: i32 = 2;
const EBUSY: i32 = 16;

pub fn up() -> Stand {
    let mut stand = Stand::new();
    stand.world.ask(declare(everything())).unwrap();
    stand.world.settle();
    stand.world.events.clear();
    stand
}

pub fn instance(world: &World, service: &str) -> Id {
    world.engine.state.instances.values().find(|i| i.given.service == service).unwrap().given.id
}

pub fn told(world: &World, kind: &str) -> Vec<String> {
    let of = world.events.iter().filter(|e| e["kind"] == kind);
    of.map(|e| e["text"].as_str().unwrap_or_default().to_owned()).collect()
}

/// One thing somebody does by hand.
pub struct Case {
    pub what: &'static str,
    pub change: fn(&World, &mut Machine),
    /// What becomes of it: whether it is put back in place, or the instance is replaced.
    pub replaced: bool,
}

pub const CASES: &[Case] = &[
    Case { what: "an anchor is flushed", change: |_, m| m.anchors.clear(), replaced: false },
    Case {
        what: "a member is taken out of its table",
        change: |_, m| {
            let tables = m.anchors.values_mut().flat_map(|a| a.tables.values_mut());
            tables.for_each(std::collections::BTreeSet::clear);
        },
        replaced: false,
    },
    Case {
        what: "a stranger is put into a table",
        change: |_, m| {
            let tables = m.anchors.values_mut().flat_map(|a| a.tables.values_mut());
            tables.for_each(|table| table.extend(["10.77.1.250".parse::<std::net::IpAddr>().unwrap()]));
        },
        replaced: false,
    },
    Case { what: "aliases are removed", change: |_, m| m.aliases.clear(), replaced: false },
    Case { what: "the DNS sockets are closed", change: |_, m| m.sockets.clear(), replaced: false },
    Case {
        what: "a mount is unmounted",
        change: |_, m| m.mounts.retain(|path, _| !path.ends_with("data/inner")),
        replaced: false,
    },
    Case {
        what: "an interface is taken out of its jail",
        change: |_, m| {
            for eiface in m.eifaces.values_mut() {
                (eiface.jail, eiface.inside) = (None, None);
                eiface.addresses.clear();
            }
        },
        replaced: false,
    },
    Case {
        what: "the gateway's interface is destroyed",
        change: |_, m| {
            m.eifaces.retain(|name, _| !name.starts_with('g'));
            m.bridges.values_mut().for_each(|b| b.links.retain(|_, node| !node.starts_with('g')));
        },
        replaced: false,
    },
    Case {
        what: "a filter is destroyed",
        change: |_, m| {
            let guarded = m.eifaces.iter_mut().filter(|(_, e)| e.guarded);
            for (name, eiface) in guarded {
                (eiface.guarded, eiface.open) = (false, false);
                m.bridges.values_mut().for_each(|b| b.links.retain(|_, node| node != name));
            }
        },
        replaced: false,
    },
    Case {
        what: "the rules of an anchor are edited",
        change: |_, m| m.anchors.values_mut().for_each(|anchor| anchor.edited = true),
        replaced: false,
    },
    Case {
        what: "interfaces are taken down",
        change: |_, m| m.eifaces.values_mut().for_each(|e| e.up = false),
        replaced: false,
    },
    Case {
        what: "addresses are removed from interfaces",
        change: |_, m| m.eifaces.values_mut().for_each(|e| e.addresses.clear()),
        replaced: false,
    },
    Case {
        what: "default routes are removed",
        change: |_, m| m.eifaces.values_mut().for_each(|e| e.gateways.clear()),
        replaced: false,
    },
    Case {
        what: "the hooks of a bridge are removed",
        change: |_, m| m.bridges.values_mut().for_each(|b| b.links.clear()),
        replaced: false,
    },
    Case {
        what: "a jail is removed",
        change: |world, m| drop(m.lose_jail(&instance(world, "one").jail())),
        replaced: true,
    },
    Case {
        what: "an instance's interface is destroyed",
        change: |_, m| {
            m.eifaces.retain(|name, _| !name.starts_with('w'));
            m.bridges.values_mut().for_each(|b| b.links.retain(|_, node| !node.starts_with('w')));
        },
        replaced: true,
    },
    Case { what: "the bridge is destroyed", change: |_, m| m.bridges.clear(), replaced: true },
    Case {
        what: "a clone is destroyed",
        change: |world, m| {
            let id = instance(world, "one");
            m.mounts.retain(|path, _| !path.starts_with(format!("/roots/{id}")));
            m.files.retain(|path, _| !path.starts_with(format!("/roots/{id}")));
            m.clones.clear();
        },
        replaced: true,
    },
];

/// What became of a case: whether anything was replaced, and what was told.
pub fn run(case: &Case) -> Vec<String> {
    let mut stand = up();
    let before = instance(&stand.world, "one");
    let world = &mut stand.world;
    let sim = world.sim.clone();
    sim.tamper(|machine| (case.change)(world, machine));
    world.settle_within(A_LOOK);
    // What was replaced comes after a pause.
    world.settle_within(Duration::from_secs(10));
    check::at_rest(world);
    assert_eq!((world.ready("shop", "one"), world.ready("shop", "two")), (1, 1), "{:#?}", world.events);
    assert_eq!(instance(world, "one") != before, case.replaced, "{:#?}", world.events);
    let kind = if case.replaced { "drift" } else { "mended" };
    let texts = told(world, kind);
    assert!(!texts.is_empty(), "nobody was told: {:#?}", world.events);
    // The next look sees nothing more.
    world.events.clear();
    world.settle_within(A_LOOK);
    assert_eq!(told(world, kind), Vec::<String>::new());
    world.ask(Command::Drop("shop".into())).unwrap();
    world.settle();
    world.assert_nothing_left();
    texts
}

#[test]
fn whatever_is_changed_by_hand_is_put_right() {
    for case in CASES {
        crate::faults::named(|| case.what.to_owned(), || run(case));
    }
}

#[test]
fn what_cannot_be_put_right_is_told_of_until_it_can() {
    let mut stand = up();
    let world = &mut stand.world;
    let network = *world.engine.state.networks.keys().next().unwrap();
    world.sim.tamper(|machine| machine.anchors.clear());
    world.sim.refuse(|op| matches!(op, Op::AnchorLoad(_)).then_some(EBUSY));
    // For longer than what goes away again and again is put back.
    for _ in 0..6 {
        world.settle_within(A_LOOK);
        let of_network = told(world, "drift").into_iter().filter(|text| text.starts_with("the anchor "));
        assert_eq!(of_network.collect::<Vec<_>>().len(), 1, "told once: {:#?}", told(world, "drift"));
        let open: Vec<&str> = world.engine.drift_of(network).collect();
        assert!(matches!(*open, [text] if text.contains("could not be put right: injected")), "{open:?}");
    }
    world.sim.refuse(|_| None);
    world.settle_within(A_LOOK * 2);
    assert_eq!(world.engine.drift_of(network).next(), None);
    check::at_rest(world);
}

/// A service that may fail once would give up before the next look.
#[test]
fn what_a_start_failed_at_is_put_back_before_the_next_one() {
    let mut stand = up();
    let world = &mut stand.world;
    world.settle_within(Duration::from_secs(6));
    world.sim.tamper(|machine| machine.anchors.clear());
    world.ask(Command::Scale { fabric: "shop".into(), service: "one".into(), replicas: 2 }).unwrap();
    world.settle_within(Duration::from_secs(4));
    assert_eq!(world.ready("shop", "one"), 2, "{:#?}", world.events);
    assert_eq!(told(world, "step-failed").len(), 1, "{:#?}", world.events);
    // A hook that fails says nothing of the machine: it is not looked at for each of a service's crashes.
    world.settle_within(Duration::from_secs(6));
    world.sim.tamper(|machine| machine.anchors.clear());
    world.script(|job| job.id.contains(".hook.prestart.").then_some(Behaviour::Ends(Status::Exited(1))));
    world.ask(Command::Scale { fabric: "shop".into(), service: "one".into(), replicas: 3 }).unwrap();
    world.settle_within(Duration::from_secs(4));
    assert!(told(world, "step-failed").len() > 2, "{:#?}", world.events);
    assert!(world.sim.look(|machine| machine.anchors.is_empty()), "{:#?}", world.events);
}

/// Somebody loads a pf.conf without Warren's anchor points: the anchors stand and nothing evaluates them, which no look sees.
#[test]
fn rules_are_loaded_anew_now_and_then_and_a_refusal_is_told_of_until_it_ends() {
    let mut stand = up();
    let world = &mut stand.world;
    let network = *world.engine.state.networks.keys().next().unwrap();
    let from = world.sim.performed();
    world.settle_within(A_LOOK * 10);
    let loads = world.sim.log().split_off(from).into_iter().filter(|op| matches!(op, Op::AnchorLoad(_)));
    assert_eq!(loads.count(), 1);
    assert_eq!((told(world, "mended"), told(world, "drift")), (vec![], vec![]), "nothing was missed");
    world.sim.refuse(|op| matches!(op, Op::AnchorLoad(_)).then_some(ENOENT));
    world.settle_within(A_LOOK * 10);
    for _ in 0..3 {
        let words = told(world, "drift");
        assert!(matches!(&*words, [text] if text.starts_with("the rules of ")), "told once: {words:?}");
        assert_eq!(world.engine.drift_of(network).collect::<Vec<_>>(), words, "until it ends");
        world.settle_within(A_LOOK);
    }
    world.sim.refuse(|_| None);
    world.settle_within(A_LOOK);
    assert_eq!(world.engine.drift_of(network).next(), None);
    assert_eq!(told(world, "mended").len(), 1);
    check::at_rest(world);
}

#[test]
fn a_stranger_that_stays_in_a_table_is_told_of_once() {
    let mut stand = up();
    let world = &mut stand.world;
    world.sim.tamper(|machine| {
        let tables = machine.anchors.values_mut().flat_map(|anchor| anchor.tables.values_mut());
        tables.for_each(|table| table.extend(["10.77.1.250".parse::<std::net::IpAddr>().unwrap()]));
    });
    world.sim.refuse(|op| matches!(op, Op::TableRemove { .. }).then_some(EBUSY));
    world.settle_within(A_LOOK * 3);
    let words = told(world, "drift");
    assert!(matches!(&*words, [text] if text.starts_with("strangers in ")), "{words:?}");
}

#[test]
fn rules_that_are_refused_are_told_of_until_they_are_loaded() {
    // Nothing is missed: a pf.conf without Warren's anchor points leaves the anchors as they are.
    let mut stand = up();
    let world = &mut stand.world;
    let network = *world.engine.state.networks.keys().next().unwrap();
    world.sim.refuse(|op| matches!(op, Op::AnchorLoad(_)).then_some(16));
    // They are loaded anew with every tenth look.
    world.settle_within(A_LOOK * 10);
    for _ in 0..3 {
        world.settle_within(A_LOOK);
        let open: Vec<&str> = world.engine.drift_of(network).collect();
        assert!(open.len() == 1 && open[0].contains("could not be put right: injected"), "{open:?}");
    }
    let words = told(world, "drift").iter().filter(|text| text.contains("the rules of")).count();
    assert_eq!(words, world.engine.state.networks.len(), "each is told once");
    world.sim.refuse(|_| None);
    world.settle_within(A_LOOK);
    assert_eq!(world.engine.drift_of(network).next(), None);
    check::at_rest(world);
}

#[test]
fn what_is_not_for_warren_to_change_is_told_of_once_and_left() {
    let mut stand = up();
    let world = &mut stand.world;
    let (one, mac) = (instance(world, "one"), [2, 0x66, 0, 0, 0, 1]);
    let theirs = world.sim.machine().mounts.keys().find(|path| path.ends_with("data/inner")).unwrap().clone();
    let change = |machine: &mut Machine| {
        machine.eifaces.get_mut(&one.node()).unwrap().mac = mac;
        machine.mounts.get_mut(&theirs).unwrap().fstype = "tmpfs".into();
    };
    world.sim.tamper(change);
    let changed = world.sim.machine();
    world.settle_within(A_LOOK * 2);
    let words = told(world, "drift");
    assert_eq!(words.len(), 2, "{words:#?}");
    assert!(words[0].contains("the mount /roots/") && words[0].contains("of type tmpfs"), "{words:#?}");
    assert!(words[1].contains("which is 02:66:00:00:00:01"), "{words:#?}");
    assert_eq!(world.engine.drift_of(one).count(), 2);
    assert_eq!(world.sim.machine().mounts, changed.mounts);
    assert_eq!(world.sim.machine().eifaces, changed.eifaces);
    assert_eq!(instance(world, "one"), one, "the instance runs on");
}

#[test]
fn what_goes_away_again_and_again_is_not_put_back_for_ever() {
    let mut stand = up();
    let world = &mut stand.world;
    for _ in 0..6 {
        world.sim.tamper(|machine| machine.aliases.clear());
        world.settle_within(Duration::from_secs(30));
    }
    let two = instance(world, "two");
    let open: Vec<&str> = world.engine.drift_of(two).collect();
    assert_eq!(open.len(), 1, "{open:?}");
    assert!(open[0].contains("goes away again"), "{open:?}");
    assert_eq!(world.engine.state.instances[&two].unit.stage, Stage::Ready, "it is not stopped for that");
}

#[test]
fn an_end_that_nobody_saw_is_seen_by_the_second_look() {
    let mut stand = up();
    let world = &mut stand.world;
    let before = instance(world, "one");
    // The keeper died and forgot everything.
    world.sim.tamper(Machine::forget_jobs);
    world.settle_within(A_LOOK * 2);
    world.settle_within(Duration::from_secs(5));
    assert_ne!(instance(world, "one"), before);
    assert_eq!(world.ready("shop", "one"), 1);
    let ended = world.events.iter().any(|e| e["why"].as_str().is_some_and(|w| w.contains("ended unseen")));
    assert!(ended, "{:#?}", world.events);
    check::at_rest(world);
}

#[test]
fn an_address_that_was_there_before_stays_when_the_instance_goes() {
    let mut stand = Stand::new();
    stand.world.ask(declare(everything())).unwrap();
    let world = &mut stand.world;
    while world.engine.state.instances.is_empty() {
        world.step();
    }
    let two = world.engine.state.instances.values().find(|i| i.given.service == "two").unwrap();
    let link = two.given.links[0].clone();
    let theirs = (link.network.gateway(), link.plain_addresses()[0].into());
    world.sim.tamper(|machine| machine.aliases.extend([theirs.clone()]));
    world.settle();
    world.ask(Command::Drop("shop".into())).unwrap();
    world.settle();
    let aliases = world.sim.machine().aliases;
    assert_eq!(aliases.into_iter().collect::<Vec<_>>(), [theirs], "somebody else's alias went");
}

#[test]
fn a_process_killed_by_hand_ends_its_instance_and_another_starts() {
    let mut stand = up();
    let world = &mut stand.world;
    let before = instance(world, "one");
    world.sim.end(&format!("{before}.main"), Status::Signaled(9));
    world.settle();
    assert_ne!(instance(world, "one"), before);
    check::at_rest(world);
}

#[test]
fn a_look_into_a_jail_that_fails_takes_nothing_down() {
    let mut stand = up();
    let world = &mut stand.world;
    let before = instance(world, "two");
    const ENOMEM: i32 = 12;
    world.sim.refuse(|op| matches!(op, Op::JailCount { .. }).then_some(ENOMEM));
    world.settle_within(Duration::from_secs(10));
    assert_eq!(instance(world, "two"), before);
    assert_eq!(world.ready("shop", "two"), 1);
    // But one that finds no jail does.
    world.sim.refuse(|_| None);
    world.sim.lose_jail(&before.jail());
    world.settle_within(Duration::from_secs(10));
    assert_ne!(instance(world, "two"), before);
    check::at_rest(world);
}

#[test]
fn a_jail_removed_by_hand_is_missed_before_the_next_look() {
    let mut stand = up();
    let world = &mut stand.world;
    let before = instance(world, "two");
    world.sim.refuse(|op| matches!(op, Op::JailCount { .. }).then_some(12));
    world.sim.lose_jail(&before.jail());
    // No time passes: neither a look at the machine nor one for processes.
    world.settle_within(Duration::ZERO);
    let text = format!("the jail {} went away without Warren", before.jail());
    assert_eq!(told(world, "drift"), [text]);
    world.sim.refuse(|_| None);
    world.settle_within(Duration::from_secs(10));
    assert_ne!(instance(world, "two"), before);
    check::at_rest(world);
}
