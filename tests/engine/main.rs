//! The engine on the sim: the main job and its turns. What fails and dies at every point is in tests/leaks.

mod cancel;
mod live;
mod shortage;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use support::{World, declare, fabric, instance, network, service, shop};
use warren::config::spec::{OnStopFailure, RestartPolicy, TemplateSource, TemplateSpec};
use warren::host::sim::Behaviour;
use warren::host::{Op, Status};
use warren::lifecycle::engine::{Command, Effect, Event, NameChange};
use warren::store::Stage;
use warren_dhcp::server::{ClientKey, Lease, LeaseChange, LeaseState};

#[test]
fn a_fabric_comes_up_in_order_and_goes_without_a_trace() {
    let mut world = World::new();
    world.ask(declare(shop())).unwrap();
    world.settle();
    for (service, count) in [("db", 1), ("api", 3), ("web", 2)] {
        assert_eq!(world.ready("shop", service), count, "{service}; {:#?}", world.events);
    }
    let published: Vec<&str> = (world.names.iter())
        .filter_map(|n| match n {
            NameChange::Publish { service, .. } => Some(service.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(published, ["db", "api", "api", "api", "web", "web"]);
    // Nothing of a service is made before all it depends on is ready.
    let at = |kind: &str, service: &str| -> Vec<usize> {
        let of = |e: &serde_json::Value| {
            e["kind"] == kind && e["name"].as_str().is_some_and(|n| n.starts_with(service))
        };
        world.events.iter().enumerate().filter(|(_, e)| of(e)).map(|(n, _)| n).collect()
    };
    assert!(at("ready", "db-").iter().max() < at("created", "api-").iter().min());
    assert!(at("ready", "api-").iter().max() < at("created", "web-").iter().min());
    world.ask(Command::Drop("shop".into())).unwrap();
    world.settle();
    world.assert_nothing_left();
}

#[test]
fn a_domain_below_another_fabrics_is_refused() {
    let mut world = World::new();
    let mut lan = shop();
    lan.domain = "corp.lan".into();
    world.ask(declare(lan)).unwrap();
    let in_domain = |domain: &str| {
        let mut other = fabric(vec![service("web", 1, &[])]);
        (other.name, other.domain) = ("other".into(), domain.into());
        other.networks = [("net".to_owned(), network("net", 2))].into();
        declare(other)
    };
    for domain in ["dev.corp.lan", "corp.lan", "lan"] {
        let refused = world.ask(in_domain(domain)).unwrap_err().message;
        assert!(refused.contains("fabric `shop`") && refused.contains(&format!("`{domain}`")), "{refused}");
    }
    // It ends alike, and is beside it.
    world.ask(in_domain("devcorp.lan")).unwrap();
}

#[test]
fn scaling_starts_and_stops_the_difference() {
    let mut world = World::new();
    world.ask(declare(shop())).unwrap();
    world.settle();
    let before = world.engine.state.service("shop", "api").unwrap().current.clone();
    world.ask(Command::Scale { fabric: "shop".into(), service: "api".into(), replicas: 20 }).unwrap();
    world.settle();
    let many = world.engine.state.service("shop", "api").unwrap().current.clone();
    assert_eq!(world.ready("shop", "api"), 20);
    assert!(many.is_superset(&before), "the old ones stay");
    world.ask(Command::Scale { fabric: "shop".into(), service: "api".into(), replicas: 3 }).unwrap();
    world.settle();
    assert_eq!(world.engine.state.service("shop", "api").unwrap().current, before, "the youngest go");
    assert_eq!(world.sim.machine().jails.len(), 6);
}

#[test]
fn no_more_of_a_service_than_its_file_could_say() {
    let mut alone = service("alone", 1, &[]);
    alone.instance.template = TemplateSpec {
        name: "shared".into(),
        source: TemplateSource::Shared { path: "/jails/alone".into() },
    };
    let mut world = World::new();
    world.ask(declare(fabric(vec![alone, service("many", 1, &[])]))).unwrap();
    world.settle();
    let mut scale = |service: &str, replicas| {
        let scaled = world.ask(Command::Scale { fabric: "shop".into(), service: service.into(), replicas });
        world.settle();
        (scaled.map_err(|refusal| refusal.message), world.ready("shop", service))
    };
    // Two that mount into one root: the one that goes first would take the other's mounts.
    let (refused, there) = scale("alone", 2);
    assert!(refused.unwrap_err().contains("mounts into /jails/alone, which 2 instances share"));
    assert_eq!(there, 1);
    let (refused, there) = scale("many", 300);
    let said = refused.unwrap_err();
    assert!(said.contains("252 IPv4 addresses to give out"), "{said}");
    assert_eq!(there, 1);
    assert_eq!(scale("alone", 0).1, 0);
    assert_eq!(scale("alone", 1).1, 1);
}

/// The hooks that ran, in order.
fn hooks_run(world: &World) -> Vec<String> {
    let log = world.sim.log();
    let hooks = log.iter().filter_map(|op| match op {
        Op::Run(job) => job.id.split('.').nth(2).map(str::to_owned),
        _ => None,
    });
    hooks.collect()
}

#[test]
fn a_failed_start_runs_the_partners_of_the_hooks_that_began() {
    let expect: [(&str, &[&str]); 5] = [
        ("prepare", &["prepare", "release"]),
        ("prestart", &["prepare", "prestart", "poststop", "release"]),
        ("created", &["prepare", "prestart", "created", "quiesced", "poststop", "release"]),
        ("start", &["prepare", "prestart", "created", "start", "stop", "quiesced", "poststop", "release"]),
        (
            "poststart",
            &[
                "prepare",
                "prestart",
                "created",
                "start",
                "poststart",
                "prestop",
                "stop",
                "quiesced",
                "poststop",
                "release",
            ],
        ),
    ];
    for (failing, ran) in expect {
        let mut world = World::new();
        let needle = format!("hook.{failing}.");
        world.script(move |job| job.id.contains(&needle).then_some(Behaviour::Ends(Status::Exited(3))));
        let mut one = service("one", 1, &[]);
        one.restart.policy = RestartPolicy::No;
        world.ask(declare(fabric(vec![one]))).unwrap();
        world.settle();
        assert_eq!(hooks_run(&world), ran, "{failing}");
        let release = (world.sim.log().into_iter())
            .find_map(|op| match op {
                Op::Run(job) if job.id.contains("hook.release.") => Some(job),
                _ => None,
            })
            .unwrap();
        assert_eq!(release.env["WARREN_FAILED_PHASE"], format!("exec.{failing}"));
        assert!(release.env["WARREN_REASON"].contains("exit status 3"));
        let trouble = world.engine.state.service("shop", "one").unwrap().trouble.clone().unwrap();
        assert!(trouble.contains(&format!("exec.{failing}: exit status 3")), "{trouble}");
        world.ask(Command::Drop("shop".into())).unwrap();
        world.settle();
        world.assert_nothing_left();
    }
}

#[test]
fn a_start_that_fails_with_processes_running_kills_them_before_anything_is_taken_away() {
    let mut world = World::new();
    world.script(|job| match () {
        () if job.id.contains("hook.start.") => Some(Behaviour::Leaves(Status::Exited(0))),
        () if job.id.contains("hook.poststart.") => Some(Behaviour::Ends(Status::Exited(1))),
        () => None,
    });
    let mut one = service("one", 1, &[]);
    one.restart.policy = RestartPolicy::No;
    world.ask(declare(fabric(vec![one]))).unwrap();
    world.settle();
    assert!(world.sim.machine().jails.is_empty());
    world.ask(Command::Drop("shop".into())).unwrap();
    world.settle();
    world.assert_nothing_left();
}

#[test]
fn a_main_process_that_fails_is_replaced_with_growing_pauses_until_retries_are_used_up() {
    let mut world = World::new();
    world.script(|job| job.id.ends_with(".main").then_some(Behaviour::Ends(Status::Exited(1))));
    world.ask(declare(fabric(vec![service("one", 1, &[])]))).unwrap();
    world.settle_within(Duration::from_secs(300));
    let state = world.engine.state.service("shop", "one").unwrap();
    assert!(state.halted);
    assert_eq!(state.failures, 4);
    assert!(world.sim.machine().jails.is_empty());
}

#[test]
fn a_replacement_gets_a_new_id_and_the_old_name_is_withdrawn_first() {
    let mut world = World::new();
    world.ask(declare(fabric(vec![service("one", 1, &[])]))).unwrap();
    world.settle();
    let old = *world.engine.state.instances.keys().next().unwrap();
    world.sim.end(&format!("{old}.main"), Status::Exited(1));
    world.settle();
    let new = *world.engine.state.instances.keys().next().unwrap();
    assert_ne!(old, new);
    assert_eq!(world.ready("shop", "one"), 1);
    let withdrawn = world.names.iter().position(|n| *n == NameChange::Withdraw(old));
    assert!(withdrawn.is_some());
}

#[test]
fn on_stop_failure_abort_keeps_the_instance_as_jail8_does() {
    let mut world = World::new();
    world.script(|job| job.id.contains("hook.prestop.").then_some(Behaviour::Ends(Status::Exited(1))));
    let mut one = service("one", 1, &[]);
    one.instance.on_stop_failure = OnStopFailure::Abort;
    world.ask(declare(fabric(vec![one]))).unwrap();
    world.settle();
    let id = *world.engine.state.instances.keys().next().unwrap();
    world.ask(Command::Stop(id)).unwrap();
    while world.step() {}
    assert!(world.events.iter().any(|e| e["kind"] == "stop-aborted"), "{:#?}", world.events);
    assert!(world.sim.machine().jails.contains_key(&id.jail()));
}

#[test]
fn a_failing_poststop_leaves_the_instance_failed_with_its_address_free_and_repair_finishes() {
    let mut world = World::new();
    world.script(|job| {
        let fails = job.id.contains("hook.poststop.") && !job.id.ends_with(".1");
        fails.then_some(Behaviour::Ends(Status::Exited(1)))
    });
    world.ask(declare(fabric(vec![service("one", 1, &[])]))).unwrap();
    world.settle();
    let id = *world.engine.state.instances.keys().next().unwrap();
    world.ask(Command::Scale { fabric: "shop".into(), service: "one".into(), replicas: 0 }).unwrap();
    world.settle();
    let unit = &world.engine.state.instances[&id];
    assert_eq!(unit.unit.stage, Stage::Failed);
    assert_eq!(unit.unit.left.len(), 1, "{:#?}", unit.unit.left);
    assert!(!unit.assigned, "address and link are free");
    assert!(world.sim.machine().clones.is_empty(), "all but the hook is gone");
    world.ask(Command::Repair(None)).unwrap();
    world.settle();
    assert!(!world.engine.state.instances.contains_key(&id));
    world.ask(Command::Drop("shop".into())).unwrap();
    world.settle();
    world.assert_nothing_left();
}

#[test]
fn a_changed_service_is_replaced_and_the_rest_is_left_alone() {
    let mut world = World::new();
    world.ask(declare(shop())).unwrap();
    world.settle();
    let before: Vec<_> = world.engine.state.instances.keys().copied().collect();
    let mut changed = shop();
    changed.services.get_mut("api").unwrap().instance.env.insert("NEW".into(), "1".into());
    changed.services.remove("web");
    world.ask(declare(changed)).unwrap();
    world.settle();
    let of = |service: &str| -> Vec<_> {
        let instances = world.engine.state.instances.values();
        instances.filter(|i| i.given.service == service).map(|i| i.given.id).collect()
    };
    assert!(of("db").iter().all(|id| before.contains(id)));
    assert_eq!(of("api").len(), 3);
    assert!(of("api").iter().all(|id| !before.contains(id)));
    assert!(of("web").is_empty());
}

#[test]
fn what_the_dhcp_address_mode_waits_for_is_the_lease() {
    let mut world = World::new();
    let mut one = service("one", 1, &[]);
    one.instance = instance("net");
    one.instance.links[0].address = warren::config::spec::AddressMode::Dhcp;
    world.ask(declare(fabric(vec![one]))).unwrap();
    world.settle();
    assert_eq!(world.ready("shop", "one"), 0);
    let shown = |world: &World| -> Vec<String> {
        let rows = warren::daemon::api::view::leases(&world.engine);
        rows.into_iter().map(|row| row.state).collect()
    };
    assert_eq!(shown(&world), ["none", "static"]);
    let link = world.engine.state.instances.values().next().unwrap().given.links[0].clone();
    let lease = Lease {
        address: link.addresses[0].addr().to_string().parse().unwrap(),
        client: ClientKey { mac: link.mac.into(), client_id: None },
        state: LeaseState::Bound,
        since: world.now,
        expiry: world.now + 3_600_000,
        last_seen: world.now,
        client_name: None,
    };
    world.handle(Event::Lease { network: link.network, change: LeaseChange::Bound(lease), token: 1 });
    world.settle();
    assert_eq!(world.ready("shop", "one"), 1);
    assert_eq!(shown(&world), ["bound", "static"]);
}

#[test]
fn a_one_off_and_a_service_have_no_name_in_common() {
    let mut world = World::new();
    let one = service("one", 1, &[]);
    let run = |name: &str| Command::Run {
        fabric: "shop".into(),
        service: name.into(),
        spec: Box::new(one.instance.clone()),
    };
    world.ask(declare(fabric(vec![one.clone()]))).unwrap();
    world.settle();
    let refused = world.ask(run("one")).unwrap_err();
    assert!(refused.message.contains("`one` is a service of the fabric `shop`"), "{}", refused.message);
    world.ask(run("later")).unwrap();
    world.settle();
    // Whoever asks for `later` would find it.
    let both = fabric(vec![one.clone(), service("later", 1, &[])]);
    let refused = world.ask(declare(both.clone())).unwrap_err();
    assert!(refused.message.contains("stop it first, `warren stop later-"), "{}", refused.message);
    let id = world.engine.state.instances.values().find(|i| i.revision.is_none()).unwrap().given.id;
    world.ask(Command::Stop(id)).unwrap();
    world.settle();
    world.ask(declare(both)).unwrap();
    world.settle();
    assert!(world.engine.is_settled("shop"));
}

#[test]
fn what_dhcp_says_a_client_is_called_is_its_name_in_the_zone() {
    let mut world = World::new();
    let mut one = service("one", 1, &[]);
    one.instance.hostname = Some("www.example.org".into());
    world.ask(declare(fabric(vec![one]))).unwrap();
    world.settle();
    let id = *world.engine.state.instances.keys().next().unwrap();
    let told: Vec<_> = world.clients.values().map(|client| client.hostname.clone()).collect();
    assert_eq!(told, [format!("one-{id}")]);
}

#[test]
fn a_lease_that_nobody_renews_ends_and_its_address_stays_the_instances() {
    let mut world = World::new();
    let mut one = service("one", 1, &[]);
    one.instance = instance("net");
    one.instance.links[0].address = warren::config::spec::AddressMode::Dhcp;
    world.ask(declare(fabric(vec![one]))).unwrap();
    world.settle();
    let link = world.engine.state.instances.values().next().unwrap().given.links[0].clone();
    let address: std::net::Ipv4Addr = link.addresses[0].addr().to_string().parse().unwrap();
    let say =
        |world: &mut World, change| world.handle(Event::Lease { network: link.network, change, token: 1 });
    let bind = |world: &mut World, seconds: u64| {
        let lease = Lease {
            address,
            client: ClientKey { mac: link.mac.into(), client_id: None },
            state: LeaseState::Bound,
            since: world.now,
            expiry: if seconds == 0 { u64::MAX } else { world.now + seconds * 1000 },
            last_seen: world.now,
            client_name: None,
        };
        say(world, LeaseChange::Bound(lease));
    };
    // What the state says, and what a daemon reads that starts now.
    let state = |world: &World| {
        let mut again = warren::store::State::default();
        support::compact(&world.log).iter().for_each(|record| again.apply(record));
        let of = |state: &warren::store::State| {
            state.networks[&link.network].leases.at(address).map(|lease| (lease.state, lease.expiry))
        };
        assert_eq!(of(&world.engine.state), of(&again));
        of(&again).unwrap().0
    };
    bind(&mut world, 0);
    world.settle();
    let waiting = world.engine.waiting();
    bind(&mut world, 60);
    world.settle_within(Duration::from_secs(40));
    bind(&mut world, 60);
    world.settle_within(Duration::from_secs(50));
    assert_eq!(state(&world), LeaseState::Bound, "it was renewed");
    world.settle_within(Duration::from_secs(30));
    assert_eq!(state(&world), LeaseState::Expired);
    world.settle_within(Duration::from_secs(60));
    assert_eq!(world.engine.waiting(), waiting, "nothing waits for leases where there are none");
    assert_eq!(world.ready("shop", "one"), 1);
    let owner = world.engine.state.ipam.owner_of(address.into()).unwrap().as_str().to_owned();
    assert_eq!(owner, world.engine.state.instances.keys().next().unwrap().to_string());

    // The end of one that has ended is no news, however often it is told.
    let released = || LeaseChange::Released { address, at: 1 };
    let written = world.log.len();
    (0..9).for_each(|_| say(&mut world, released()));
    assert_eq!((world.log.len(), state(&world)), (written, LeaseState::Expired));
    bind(&mut world, 60);
    say(&mut world, released());
    assert_eq!(state(&world), LeaseState::Released);
}

#[test]
fn of_a_dhcp_link_ipv4_is_left_to_the_client_and_ipv6_is_set() {
    for lan in [false, true] {
        let mut world = World::new();
        let mut one = service("one", 1, &[]);
        one.instance = instance("net");
        one.instance.links[0].address = warren::config::spec::AddressMode::Dhcp;
        let mut fabric = fabric(vec![one]);
        let net = fabric.networks.get_mut("net").unwrap();
        if lan {
            (net.lan_dhcp, net.gateway4, net.dhcp4, net.nat) = (true, None, None, false);
        }
        let gateway6 = net.gateway6.unwrap();
        world.ask(declare(fabric)).unwrap();
        world.settle();
        let link = world.engine.state.instances.values().next().unwrap().given.links[0].clone();
        let v6: Vec<_> = link.addresses.iter().copied().filter(|net| net.addr().is_ipv6()).collect();
        assert_eq!((v6.len(), link.addresses.len()), (1, if lan { 1 } else { 2 }), "{link:?}");
        let machine = world.sim.machine();
        let eiface = machine.eifaces.values().find(|eiface| eiface.mac == link.mac).unwrap();
        assert!(eiface.up);
        assert_eq!((&eiface.addresses, &eiface.gateways), (&v6, &vec![gateway6.into()]), "lan: {lan}");
    }
}

#[test]
fn a_new_daemon_has_every_name_again_before_it_takes_up_questions() {
    use warren::lifecycle::engine::{Effect, Engine, Settings};
    let mut world = World::new();
    world.ask(declare(shop())).unwrap();
    world.settle();
    let mut state = warren::store::State::default();
    support::compact(&world.log).iter().for_each(|record| state.apply(record));
    let boot = state.boot.clone().unwrap();
    let settings = Settings { roots: "/roots".into(), program: "/program".into(), jobs: 8 };
    let effects = Engine::new(state, settings).recover(&boot, world.now, 3).effects;
    let places = |of: &dyn Fn(&Effect) -> bool| -> Vec<usize> {
        (0..effects.len()).filter(|n| of(&effects[*n])).collect()
    };
    let (names, serves) =
        (places(&|e| matches!(e, Effect::Name(_))), places(&|e| matches!(e, Effect::Serve(_))));
    // The zone; and of six instances the name, and that it is ready.
    assert_eq!((names.len(), serves.len()), (1 + 6 + 6, 1), "{effects:#?}");
    assert!(names.iter().max() < serves.iter().min(), "{effects:#?}");
}

#[test]
fn a_network_that_could_not_be_served_says_so_until_it_is() {
    let mut world = World::new();
    world.ask(declare(shop())).unwrap();
    world.settle();
    let network = *world.engine.state.networks.keys().next().unwrap();
    let told = |world: &World, kind: &str| world.events.iter().filter(|e| e["kind"] == kind).count();
    for _ in 0..3 {
        world.served.clear();
        world.handle(Event::Served(network, Err(warren::host::Failure::new("no socket is left"))));
        world.settle_within(Duration::from_secs(5));
        assert!(world.served.contains(&network), "it is not tried again");
        let said: Vec<&str> = world.engine.drift_of(network).collect();
        assert!(matches!(said[..], [text] if text.contains("no socket is left")), "{said:?}");
    }
    assert_eq!(told(&world, "drift"), 1, "told once");
    world.handle(Event::Served(network, Ok(())));
    world.served.clear();
    world.settle_within(Duration::from_secs(5));
    assert_eq!((world.engine.drift_of(network).count(), told(&world, "mended")), (0, 1));
    assert!(world.served.is_empty(), "it is served already");
}

#[test]
fn what_is_amiss_stands_in_nobodys_way_while_a_stop_is_quiet() {
    let mut world = World::new();
    let mut shop = fabric(vec![service("one", 2, &[])]);
    shop.networks.insert("other".into(), network("other", 2));
    // The second network cannot come up.
    let first = std::sync::OnceLock::new();
    world.sim.refuse(move |op| match op {
        Op::BridgeCreate { bridge } if first.get_or_init(|| bridge.clone()) != bridge => Some(12),
        _ => None,
    });
    world.ask(declare(shop)).unwrap();
    world.settle();
    let network = world.engine.state.fabrics["shop"].networks["net"];
    world.handle(Event::Served(network, Err(warren::host::Failure::new("no socket is left"))));
    let seen = |world: &World| warren::daemon::api::view::fabric(&world.engine, "shop").unwrap();
    let fabric = seen(&world);
    assert!(matches!(&fabric.stuck[..], [text] if text.contains("network other")), "{:?}", fabric.stuck);
    assert!(fabric.networks[0].drift[0].contains("no socket is left"), "{:?}", fabric.networks);
    let stops =
        |world: &World| world.engine.state.instances.values().any(|i| i.unit.stage == Stage::Stopping);
    let scale = Command::Scale { fabric: "shop".into(), service: "one".into(), replicas: 1 };
    for command in [scale, Command::Drop("shop".into())] {
        world.ask(command).unwrap();
        world.settle_until(Duration::from_secs(5), stops);
        assert!(stops(&world) && seen(&world).stuck.is_empty(), "{:?}", seen(&world).stuck);
        world.settle_until(Duration::from_secs(5), |world| !stops(world));
    }
}

#[test]
fn what_waits_for_its_time_does_not_grow_with_what_has_been() {
    let mut world = World::new();
    let one = service("one", 4, &[]);
    world.ask(declare(fabric(vec![one]))).unwrap();
    world.settle();
    let scale = |world: &mut World, replicas| {
        let (fabric, service) = ("shop".into(), "one".into());
        world.ask(Command::Scale { fabric, service, replicas }).unwrap();
        world.settle_within(Duration::from_secs(2));
    };
    // Each round gives four addresses back, the next long before their quarantine is over.
    for _ in 0..50 {
        scale(&mut world, 0);
        scale(&mut world, 4);
    }
    assert!(world.engine.waiting() < 30, "{} timers", world.engine.waiting());
}

#[test]
fn an_instance_that_was_well_for_long_has_its_failures_forgiven() {
    let mut world = World::new();
    let mut one = service("one", 1, &[]);
    one.restart.retries = Some(3);
    let longest = one.restart.backoff_max;
    world.ask(declare(fabric(vec![one]))).unwrap();
    for _ in 0..10 {
        world.settle_within(longest * 2);
        let id =
            world.engine.state.instances.values().find(|i| i.unit.stage == Stage::Ready).unwrap().given.id;
        world.sim.end(&format!("{id}.main"), Status::Exited(1));
        world.settle_within(Duration::from_millis(1));
        assert_eq!(world.engine.state.service("shop", "one").unwrap().failures, 1);
    }
    // In a row they count.
    for failures in 2..=3 {
        world.settle_until(longest, |world| world.ready("shop", "one") == 1);
        let id =
            world.engine.state.instances.values().find(|i| i.unit.stage == Stage::Ready).unwrap().given.id;
        world.sim.end(&format!("{id}.main"), Status::Exited(1));
        world.settle_within(Duration::from_millis(1));
        assert_eq!(world.engine.state.service("shop", "one").unwrap().failures, failures);
    }
}

#[test]
fn a_service_is_not_scaled_beyond_what_a_file_may_say() {
    let mut world = World::new();
    world.ask(declare(fabric(vec![service("one", 1, &[])]))).unwrap();
    let (fabric, service) = ("shop".into(), "one".into());
    let refusal = world.ask(Command::Scale { fabric, service, replicas: 4_000_000 }).unwrap_err();
    assert!(refusal.message.contains("65535"), "{}", refusal.message);
}

#[test]
fn a_hook_that_outlived_its_daemon_is_ended_when_its_start_is_given_up() {
    let begun = |held: Option<usize>| {
        let mut world = World::new();
        world.held = held;
        world.ask(declare(fabric(vec![service("one", 1, &[])]))).unwrap();
        while !world.hooks.iter().any(|(_, job)| job.contains("hook.prestart.")) {
            assert!(world.step(), "there is no such hook");
        }
        let hook = world.hooks.iter().find(|(_, job)| job.contains("hook.prestart.")).unwrap().clone();
        (world, hook)
    };
    let (_, (number, _)) = begun(None);
    // It runs, and the daemon dies and is followed by another, which waits for its end.
    let (mut world, (_, job)) = begun(Some(number));
    world.crash();
    world.ask(Command::Drop("shop".into())).unwrap();
    let kills =
        |effect: &&Effect| matches!(effect, Effect::Perform(_, Op::KillJob { job: it }) if *it == job);
    assert_eq!(world.pool.iter().filter(kills).count(), 1, "{:?}", world.pool);
    world.settle();
    world.assert_nothing_left();
}

#[test]
fn another_domain_is_refused_while_the_fabric_is_up_and_nothing_changes() {
    let mut world = World::new();
    world.ask(declare(shop())).unwrap();
    world.settle();
    let (names, rows) = (world.names.len(), world.log.len());
    let mut renamed = shop();
    renamed.domain = "other.internal".into();
    let refusal = world.ask(declare(renamed.clone())).unwrap_err();
    assert!(refusal.kind == "conflict" && refusal.message.contains("warren down shop"), "{refusal:?}");
    assert_eq!(world.engine.state.fabrics["shop"].spec.domain, "shop.internal");
    assert_eq!((world.names.len(), world.log.len()), (names, rows), "a refused request changes nothing");
    world.ask(Command::Drop("shop".into())).unwrap();
    world.settle_within(Duration::from_secs(60));
    world.ask(declare(renamed)).unwrap();
}

#[test]
fn a_routing_table_is_for_commands_in_the_jail() {
    let mut world = World::new();
    let mut one = service("one", 1, &[]);
    one.instance.fib = Some(1);
    world.ask(declare(fabric(vec![one]))).unwrap();
    world.settle();
    world.ask(Command::Drop("shop".into())).unwrap();
    world.settle();
    let mut seen = (0, 0);
    for op in &world.sim.log() {
        if let Op::Run(job) | Op::Spawn(job) = op {
            // jail(8), exec.fib: it is set in the jail's own commands, and hooks on the host have the host's.
            assert_eq!(job.fib, job.jail.as_ref().map(|_| 1), "{}", job.id);
            *if job.jail.is_some() { &mut seen.0 } else { &mut seen.1 } += 1;
        }
    }
    assert!(seen.0 >= 3 && seen.1 >= 3, "{seen:?}");
}

#[test]
fn a_service_whose_work_is_done_is_settled_and_what_waited_for_it_starts() {
    let mut world = World::new();
    world.script(|job| (!job.env.contains_key("STAYS")).then_some(Behaviour::Ends(Status::Exited(0))));
    let mut migrate = service("migrate", 1, &[]);
    migrate.restart.policy = RestartPolicy::OnFailure;
    let mut web = service("web", 2, &["migrate"]);
    web.instance.env.insert("STAYS".into(), "1".into());
    world.ask(declare(fabric(vec![migrate, web]))).unwrap();
    world.settle_within(Duration::from_secs(60));
    assert_eq!(world.ready("shop", "web"), 2, "{:#?}", world.events);
    assert!(world.engine.is_settled("shop"));
    let seen = warren::daemon::api::view::fabric(&world.engine, "shop").unwrap();
    assert!(seen.stuck.is_empty() && seen.services.iter().any(|s| s.done && !s.gave_up), "{seen:?}");
    // Nobody does it again unasked.
    let created = |world: &World| world.events.iter().filter(|e| e["kind"] == "created").count();
    let before = created(&world);
    world.ask(Command::Repair(None)).unwrap();
    world.settle_within(Duration::from_secs(60));
    assert_eq!(created(&world), before);
    let again = Command::Scale { fabric: "shop".into(), service: "migrate".into(), replicas: 1 };
    world.ask(again).unwrap();
    world.settle_within(Duration::from_secs(60));
    assert_eq!(created(&world), before + 1);
    assert!(world.engine.is_settled("shop"));
}
