//! The cases, one after the other in one process, as they share the machine.

#[path = "flags.rs"]
mod flags;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use warren::config::spec::{CommandLine, ParamValue, Proto, Publish, TemplateSource};
use warren::firewall::{Policy, ServicePolicy};
use warren::host::freebsd::FreeBsd;
use warren::host::{Guard, Host, Inventory, Jail, Job, Mac, Mount, NoWitness, Op, Reply};
use warren::ids::Id;

const STATE: &str = "/tmp/warren";
const NETWORK: u64 = 77;
const ANCHOR_ID: &str = "net1";

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
    let all: [(&str, fn(&Rig)); 11] = [
        ("two_jails_on_a_bridge_talk", two_jails_on_a_bridge_talk),
        ("the_packet_filter_does_as_told", the_packet_filter_does_as_told),
        ("frames_arrive_at_a_hook", frames_arrive_at_a_hook),
        ("an_uplink_is_put_back", an_uplink_is_put_back),
        ("shared_addresses_are_aliases", shared_addresses_are_aliases),
        ("mounts_follow_no_links", mounts_follow_no_links),
        ("a_mount_never_stays_where_a_racing_link_points", a_mount_never_stays_where_a_racing_link_points),
        ("what_a_jail_mounts_itself_is_unmounted", what_a_jail_mounts_itself_is_unmounted),
        ("child_jails_and_stubborn_processes_die", child_jails_and_stubborn_processes_die),
        ("what_flags_hold_fast_is_removed", flags::what_flags_hold_fast_is_removed),
        ("undoing_half_of_it_leaves_nothing", undoing_half_of_it_leaves_nothing),
    ];
    let rig = Rig { host: FreeBsd::open(Path::new(STATE)).unwrap() };
    let again = FreeBsd::open(Path::new(STATE)).unwrap();
    assert_eq!(rig.host.boot_id(), again.boot_id());
    let mut bad = 0;
    for (name, case) in all {
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

struct Rig {
    host: FreeBsd,
}

fn id(n: u64) -> Id {
    Id::from_random(n * 0x1234_5678_9)
}

fn mac(n: u8) -> Mac {
    [2, 0, 0, 0, 9, n]
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn job(name: &str, jail: Option<String>, command: &str) -> Job {
    Job {
        id: name.into(),
        jail,
        command: CommandLine::Shell(command.into()),
        env: BTreeMap::new(),
        clean_env: true,
        user: None,
        system_jail_user: false,
        fib: None,
        timeout: Some(Duration::from_secs(30)),
        log: "log".into(),
        consolelog: None,
        console_below: None,
    }
}

/// A command of the machine's, shown with what it says.
fn show(command: &str) -> String {
    let output = Command::new("/bin/sh").args(["-c", command]).output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("# {command}");
    text.lines().for_each(|line| println!("    {line}"));
    text
}

impl Rig {
    fn perform(&self, op: &Op) -> Reply {
        match self.host.perform(op, &NoWitness) {
            Ok(reply) => reply,
            Err(failure) => panic!("{op:?}: {failure} {:?}", failure.errno),
        }
    }

    fn refuse(&self, op: &Op) -> String {
        self.host.perform(op, &NoWitness).expect_err(&format!("{op:?}")).to_string()
    }

    /// Does all of it; gives what undoes it, in reverse.
    fn all(&self, ops: Vec<Op>) -> Vec<Op> {
        for op in &ops {
            self.perform(op);
        }
        ops.iter().rev().filter_map(Op::undo).collect()
    }

    fn undo(&self, undos: &[Op]) {
        for op in undos {
            self.perform(op);
        }
    }

    /// Runs a command in a jail to its end; whether it exited with 0.
    fn runs(&self, jail: Id, name: &str, command: &str) -> bool {
        let path = "PATH=/sbin:/bin:/usr/sbin:/usr/bin";
        let job = job(name, Some(jail.jail()), &format!("{path}; {command}"));
        let done = self.host.perform(&Op::Run(job), &NoWitness);
        println!("[{}] {command}: {done:?}", jail.jail());
        self.host.forget_job(name).unwrap();
        done.is_ok()
    }

    fn assert_nothing(&self) {
        let left = self.host.observe(&[]).unwrap();
        assert_eq!(left, Inventory::default());
    }

    /// After a failed case, so that the next one starts from nothing.
    fn clean(&self) {
        show(
            "jls -N name | grep ^warren- | while read j; do jexec $j kill -9 -1; done; mount -t nullfs,devfs,tmpfs -p | awk '/warren/{print $2}' | sort -r | xargs -n1 umount -f",
        );
        let Ok(seen) = self.host.observe(&[]) else { return };
        for jail in seen.jails.keys() {
            let _ = self.host.perform(&Op::JailKill { jail: jail.clone() }, &NoWitness);
            for (interface, owner) in &seen.interfaces {
                if owner.as_ref() == Some(jail) {
                    let op = Op::IfMoveHome {
                        interface: interface.clone(),
                        jail: jail.clone(),
                        inside: "net0".into(),
                    };
                    println!("{op:?}: {:?}", self.host.perform(&op, &NoWitness));
                }
            }
            println!("{jail}: {:?}", self.host.perform(&Op::JailRemove { jail: jail.clone() }, &NoWitness));
        }
        for (node, kind) in &seen.nodes {
            let op = match kind.as_str() {
                "eiface" => Op::EifaceDestroy { node: node.clone() },
                "bridge" => Op::BridgeDestroy { bridge: node.clone() },
                _ => continue,
            };
            println!("{op:?}: {:?}", self.host.perform(&op, &NoWitness));
        }
        for name in &seen.clones {
            let op = Op::CloneDestroy { name: name.clone(), source: TemplateSource::Host };
            println!("{op:?}: {:?}", self.host.perform(&op, &NoWitness));
        }
    }

    /// The operations of a network's start.
    fn network(&self, policy: Option<Policy>) -> Vec<Op> {
        let net = id(NETWORK);
        let mut ops = vec![
            Op::BridgeCreate { bridge: net.bridge() },
            Op::EifaceCreate { node: net.gateway(), mac: mac(1), mtu: 1500 },
            Op::LinkConnect { node: net.gateway(), bridge: net.bridge(), link: 1, guarded: false },
            Op::IfConfigure {
                interface: net.gateway(),
                jail: None,
                addresses: vec!["10.77.0.1/24".parse().unwrap(), "fd77::1/64".parse().unwrap()],
                routes: vec![],
                loopback: false,
            },
            Op::LinkOpen { node: net.gateway(), bridge: net.bridge(), link: 1, guard: None, mac: mac(1) },
        ];
        ops.extend(policy.map(Op::AnchorLoad));
        ops
    }

    /// The operations of an instance's start, up to its open link.
    fn instance(&self, n: u8) -> Vec<Op> {
        let (me, net) = (id(n.into()), id(NETWORK));
        let root = self.host.root(me.as_str());
        let addresses = [format!("10.77.0.{n}/24"), format!("fd77::{n:x}/64")];
        let addresses: Vec<ipnet::IpNet> = addresses.iter().map(|a| a.parse().unwrap()).collect();
        vec![
            Op::CloneCreate { name: me.to_string(), source: TemplateSource::Host },
            devfs(&root),
            Op::JailCreate(Jail {
                name: me.jail(),
                path: root,
                hostname: format!("web-{me}"),
                vnet: true,
                addresses: vec![],
                params: BTreeMap::from([
                    ("allow.raw_sockets".to_owned(), ParamValue::Bool(true)),
                    ("children.max".to_owned(), ParamValue::Int(5)),
                    ("enforce_statfs".to_owned(), ParamValue::Int(1)),
                    ("sysvshm".to_owned(), ParamValue::Text("new".into())),
                    ("allow.mount".to_owned(), ParamValue::Bool(true)),
                    ("allow.mount.tmpfs".to_owned(), ParamValue::Bool(true)),
                ]),
            }),
            Op::EifaceCreate { node: me.node(), mac: mac(n), mtu: 1400 },
            Op::LinkConnect { node: me.node(), bridge: net.bridge(), link: n.into(), guarded: true },
            Op::IfMoveIn { interface: me.node(), jail: me.jail(), inside: "net0".into() },
            Op::IfConfigure {
                interface: "net0".into(),
                jail: Some(me.jail()),
                addresses: addresses.clone(),
                routes: vec![ip("10.77.0.1"), ip("fd77::1")],
                loopback: true,
            },
            Op::LinkOpen {
                node: me.node(),
                bridge: net.bridge(),
                link: n.into(),
                guard: Some(Guard {
                    mac: mac(n),
                    addresses: addresses.iter().map(ipnet::IpNet::addr).collect(),
                }),
                mac: mac(n),
            },
        ]
    }

    /// The operations of an instance's stop, in the plan's order.
    fn stop(&self, n: u8) -> Vec<Op> {
        let (me, net) = (id(n.into()), id(NETWORK));
        let root = self.host.root(me.as_str());
        vec![
            Op::JailTerm { jail: me.jail(), wait: Duration::from_secs(2) },
            Op::JailKill { jail: me.jail() },
            Op::UnmountForeign { jail: me.jail(), root: root.clone(), keep: vec!["/dev".into()] },
            Op::LinkDisconnect { node: me.node(), bridge: net.bridge(), link: n.into() },
            Op::IfMoveHome { interface: me.node(), jail: me.jail(), inside: "net0".into() },
            Op::EifaceDestroy { node: me.node() },
            Op::JailRemove { jail: me.jail() },
            devfs(&root).undo().unwrap(),
            Op::CloneDestroy { name: me.to_string(), source: TemplateSource::Host },
        ]
    }
}

fn devfs(root: &Path) -> Op {
    Op::Mount(Mount {
        root: root.into(),
        target: "/dev".into(),
        fstype: "devfs".into(),
        source: "devfs".into(),
        options: vec!["ruleset=4".into()],
        read_only: false,
        stacked: false,
    })
}

fn two_jails_on_a_bridge_talk(rig: &Rig) {
    let network = rig.all(rig.network(None));
    for n in [11, 12] {
        let begin = Instant::now();
        for op in rig.instance(n) {
            let begin = Instant::now();
            rig.perform(&op);
            let text = format!("{op:?}");
            println!("{:>6} us {}", begin.elapsed().as_micros(), text.split(['{', '(']).next().unwrap());
        }
        println!("instance {n} up in {} ms", begin.elapsed().as_millis());
    }
    show(
        "jls -n name vnet host.hostname enforce_statfs children.max allow.raw_sockets path; ngctl list; mount | grep warren",
    );
    let (a, b) = (id(11), id(12));
    show(&format!("jexec {} ifconfig; jexec {0} netstat -rn; jexec {0} ls -la / /dev /etc", a.jail()));
    show(&format!("jexec {} /sbin/ping6 -c 2 -t 5 fd77::c; jexec {0} ndp -an", a.jail()));
    for (n, command) in [
        "ping -c 2 -t 5 10.77.0.12",
        "ping -c 1 -t 5 10.77.0.1",
        "ping6 -c 2 -t 5 fd77::c",
        "ping -c 1 -t 5 127.0.0.1",
        "test $(hostname) = web-$(hostname | cut -d- -f2)",
        "touch /tmp/x /var/tmp/y /etc/z && ! touch /usr/nothing",
        "test ! -e /etc/master.passwd",
    ]
    .into_iter()
    .enumerate()
    {
        assert!(rig.runs(a, &format!("a.{n}"), command), "{command}");
    }
    show(&format!("ngctl msg {}: gettable; ngctl msg {0}: getstats 11", id(NETWORK).bridge()));
    let seen = rig.host.observe(&[]).unwrap();
    assert_eq!(seen.jails.len(), 2);
    assert_eq!(seen.interfaces[&a.node()], Some(a.jail()));
    assert_eq!(seen.interfaces[&id(NETWORK).gateway()], None);
    assert_eq!(seen.mounts[&rig.host.root(a.as_str()).join("dev")], "devfs");
    assert_eq!(seen.mounts.len(), 2, "{:?}", seen.mounts);
    // Somebody else's address does not pass the filter.
    assert!(rig.runs(a, "theft", "ifconfig net0 alias 10.77.0.99/32"));
    assert!(!rig.runs(a, "theft.2", "ping -c 1 -t 2 -S 10.77.0.99 10.77.0.12"));
    rig.perform(&Op::Spawn(job("main", Some(b.jail()), "sleep 1000")));
    assert_eq!(rig.perform(&Op::JailCount { jail: b.jail() }), Reply::Processes { count: 1 });
    for n in [11, 12] {
        let begin = Instant::now();
        // Twice: what is not there is no error.
        for _ in 0..2 {
            for op in rig.stop(n) {
                let begin = Instant::now();
                rig.perform(&op);
                let text = format!("{op:?}");
                println!("{:>6} us {}", begin.elapsed().as_micros(), text.split(['{', '(']).next().unwrap());
            }
        }
        println!("instance {n} down, twice, in {} ms", begin.elapsed().as_millis());
    }
    rig.perform(&Op::KillJob { job: "main".into() });
    rig.host.forget_job("main").unwrap();
    rig.undo(&network);
    show("jls -d; ngctl list; ifconfig -l; mount | grep warren; ls /tmp/warren/*");
}

fn undoing_half_of_it_leaves_nothing(rig: &Rig) {
    let network = rig.all(rig.network(None));
    let count = rig.instance(13).len();
    for stop_after in 0..=count {
        let begin = Instant::now();
        for op in rig.instance(13).into_iter().take(stop_after) {
            rig.perform(&op);
        }
        for op in rig.stop(13) {
            rig.perform(&op);
        }
        assert_eq!(rig.host.observe(&[]).unwrap().jails.len(), 0, "after {stop_after}");
        assert!(rig.host.observe(&[]).unwrap().clones.is_empty(), "after {stop_after}");
        println!("{stop_after} steps and back: {} ms", begin.elapsed().as_millis());
    }
    rig.undo(&network);
}

fn mounts_follow_no_links(rig: &Rig) {
    let me = id(14);
    let root = rig.host.root(me.as_str());
    let clone = Op::CloneCreate { name: me.to_string(), source: TemplateSource::Host };
    rig.perform(&clone);
    std::fs::create_dir_all("/tmp/outside").unwrap();
    std::os::unix::fs::symlink("/tmp/outside", root.join("data")).unwrap();
    let tmpfs = |target: &str| {
        Op::Mount(Mount {
            root: root.clone(),
            target: target.into(),
            fstype: "tmpfs".into(),
            source: "tmpfs".into(),
            options: vec!["size=10m,mode=1777".into()],
            read_only: false,
            stacked: false,
        })
    };
    println!("{}", rig.refuse(&tmpfs("/data")));
    println!("{}", rig.refuse(&tmpfs("/data/x")));
    let write = |path: &str| Op::WriteFile { root: root.clone(), path: path.into(), contents: "x\n".into() };
    println!("{}", rig.refuse(&write("/data/passwd")));
    rig.perform(&write("/etc/resolv.conf"));
    rig.perform(&write("/new/dir/file"));
    assert_eq!(std::fs::read_dir("/tmp/outside").unwrap().count(), 0);
    rig.perform(&tmpfs("/a/b"));
    let destroy = clone.undo().unwrap();
    println!("{}", rig.refuse(&destroy));
    // Not what was mounted there.
    let other = Op::Unmount(Mount {
        root: root.clone(),
        target: "/a/b".into(),
        fstype: "nullfs".into(),
        source: "/usr".into(),
        options: vec![],
        read_only: true,
        stacked: false,
    });
    println!("{}", rig.refuse(&other));
    rig.perform(&tmpfs("/a/b").undo().unwrap());
    let unknown = Op::Mount(Mount {
        root: root.clone(),
        target: "/dev".into(),
        fstype: "devfs".into(),
        source: "devfs".into(),
        options: vec!["ruleset=777".into()],
        read_only: false,
        stacked: false,
    });
    println!("{}", rig.refuse(&unknown));
    rig.perform(&destroy);
    std::fs::remove_dir("/tmp/outside").unwrap();
}

/// Ends the race, also when the test fails.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Somebody who may write to the root puts a link in the place of a directory, and the directory back, all the time.
fn a_mount_never_stays_where_a_racing_link_points(rig: &Rig) {
    let me = id(16);
    let root = rig.host.root(me.as_str());
    let clone = Op::CloneCreate { name: me.to_string(), source: TemplateSource::Host };
    rig.perform(&clone);
    let (spot, aside, trap) = (root.join("spot"), root.join("aside"), root.join("trap"));
    std::fs::create_dir_all("/tmp/outside/precious").unwrap();
    std::fs::create_dir(&spot).unwrap();
    let over = AtomicBool::new(false);
    let (mut mounted, mut refused, mut astray) = (0, 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                // Refused while something is mounted there; and what is missing of a clone is made.
                if std::fs::rename(&spot, &aside).is_ok() {
                    let _ = std::os::unix::fs::symlink("/tmp/outside", &trap);
                    let _ = std::fs::rename(&trap, &spot);
                    let _ = std::fs::remove_file(&spot);
                    let _ = std::fs::remove_dir(&spot);
                    let _ = std::fs::rename(&aside, &spot);
                    let _ = std::fs::remove_file(&trap);
                }
            }
        });
        let _end = End(&over);
        // How often a race is won is the scheduler's affair: until each way has been seen, within reason.
        for _ in 0..600 {
            if mounted >= 20 && refused >= 20 && astray >= 2 {
                break;
            }
            let mount = Op::Mount(Mount {
                root: root.clone(),
                target: "/spot".into(),
                fstype: "tmpfs".into(),
                source: "tmpfs".into(),
                options: vec!["size=1m".into()],
                read_only: false,
                stacked: false,
            });
            match rig.host.perform(&mount, &NoWitness) {
                Ok(_) => mounted += 1,
                Err(failure) if failure.message.contains("went to") => astray += 1,
                Err(_) => refused += 1,
            }
            assert!(Path::new("/tmp/outside/precious").exists(), "it stayed where the link points");
            rig.perform(&mount.undo().unwrap());
            let left = rig.host.observe(&[]).unwrap().mounts;
            assert!(
                left.keys().all(|point| !point.starts_with(&spot) && !point.starts_with(&aside)),
                "{left:?}"
            );
        }
    });
    println!("{mounted} went through, {refused} were refused, {astray} went astray and were taken back");
    assert!(mounted > 0 && refused > 0, "there was no race");
    rig.perform(&clone.undo().unwrap());
    std::fs::remove_dir_all("/tmp/outside").unwrap();
}

fn what_a_jail_mounts_itself_is_unmounted(rig: &Rig) {
    let network = rig.all(rig.network(None));
    rig.all(rig.instance(15));
    assert!(rig.runs(
        id(15),
        "mnt",
        "mkdir -p /tmp/m && mount -t tmpfs tmpfs /tmp/m && mount -t tmpfs tmpfs /tmp/m"
    ));
    show("mount | grep warren");
    for op in rig.stop(15) {
        rig.perform(&op);
    }
    rig.undo(&network);
}

fn child_jails_and_stubborn_processes_die(rig: &Rig) {
    let network = rig.all(rig.network(None));
    rig.all(rig.instance(16));
    let jail = id(16).jail();
    let made = "jail -c name=child persist path=/ children.max=2; jail -c name=child.deep path=/ persist";
    assert!(rig.runs(id(16), "children", made));
    let deaf =
        "trap '' TERM; for i in 1 2 3 4 5 6 7 8 9; do /bin/sleep 1000 & done; while :; do /bin/sleep 1; done";
    rig.perform(&Op::Spawn(job("deaf", Some(jail.clone()), deaf)));
    std::thread::sleep(Duration::from_millis(300));
    show("jls -n jid name; ps axo pid,jid,command | grep -c 'sleep\\|/bin/sh'");
    for op in rig.stop(16) {
        rig.perform(&op);
    }
    rig.perform(&Op::KillJob { job: "deaf".into() });
    rig.host.forget_job("deaf").unwrap();
    rig.undo(&network);
}

fn shared_addresses_are_aliases(rig: &Rig) {
    let network = rig.all(rig.network(None));
    let me = id(17);
    let alias = |text: &str| Op::AliasAdd {
        interface: id(NETWORK).gateway(),
        addresses: vec![text.parse().unwrap(), "fd77::17/128".parse().unwrap()],
    };
    let added = rig.perform(&alias("10.77.0.17/32"));
    assert!(matches!(&added, Reply::Aliases { added } if added.len() == 2), "{added:?}");
    assert_eq!(rig.perform(&alias("10.77.0.17/32")), Reply::Aliases { added: vec![] });
    assert_eq!(rig.host.observe(&[]).unwrap().aliases.len(), 2);
    let jail = Jail {
        name: me.jail(),
        path: "/".into(),
        hostname: "shared".into(),
        vnet: false,
        addresses: vec![ip("10.77.0.17")],
        params: BTreeMap::new(),
    };
    rig.perform(&Op::JailCreate(jail.clone()));
    show("jls -n name ip4 ip4.addr ip6 ip6.addr");
    let bad =
        Jail { params: BTreeMap::from([("allow.raw_socket".to_owned(), ParamValue::Bool(true))]), ..jail };
    println!("{}", rig.refuse(&Op::JailCreate(bad)));
    rig.perform(&Op::JailRemove { jail: me.jail() });
    rig.perform(&alias("10.77.0.17/32").undo().unwrap());
    rig.perform(&alias("10.77.0.17/32").undo().unwrap());
    rig.undo(&network);
}

fn policy() -> Policy {
    Policy {
        anchor: format!("warren/{ANCHOR_ID}"),
        network: "front".into(),
        gateway: id(NETWORK).gateway(),
        prefixes: vec!["10.77.0.0/24".parse().unwrap(), "fd77::/64".parse().unwrap()],
        resolvers: vec![ip("10.77.0.1")],
        nat: true,
        isolated: false,
        forbidden: vec!["10.78.0.0/24".parse().unwrap()],
        services: vec![ServicePolicy {
            name: "web".into(),
            table: "svc_web".into(),
            publish: vec![Publish { address: None, port: 8080, target: 80, proto: Proto::Tcp }],
        }],
    }
}

fn the_packet_filter_does_as_told(rig: &Rig) {
    let network = rig.all(rig.network(None));
    println!("{}", rig.refuse(&Op::AnchorLoad(policy())));
    show("kldload pf; echo 'pass all' | pfctl -f -");
    println!("{}", rig.refuse(&Op::AnchorLoad(policy())));
    show("pfctl -e");
    println!("{}", rig.refuse(&Op::AnchorLoad(policy())));
    show(
        "printf 'nat-anchor \"warren/*\"\\nrdr-anchor \"warren/*\"\\nanchor \"warren/*\"\\npass all\\n' | pfctl -f -; sysctl net.inet.ip.forwarding=1; ifconfig epair create; ifconfig epair0a inet 192.0.2.1/24 up",
    );
    let load = Op::AnchorLoad(policy());
    rig.perform(&load);
    let (me, tables) = (id(18), vec!["svc_web".to_owned()]);
    rig.all(rig.instance(18));
    // A machine of the outside: a jail of the test's own on the other end of the pair.
    show(
        "jail -c name=lan persist vnet path=/; ifconfig epair0b vnet lan; jexec lan ifconfig epair0b inet 192.0.2.7/24 up; jexec lan ifconfig lo0 up",
    );
    rig.perform(&Op::Spawn(job("main", Some(me.jail()), "while :; do echo hello | nc -N -l 80; done")));
    let add =
        Op::TableAdd { anchor: policy().anchor, tables, addresses: vec![ip("10.77.0.18"), ip("fd77::12")] };
    rig.perform(&add);
    rig.perform(&load); // A reload keeps the members.
    show("pfctl -a warren/net1 -sr; pfctl -a warren/net1 -sn; pfctl -a warren/net1 -t svc_web -T show");
    let seen = rig.host.observe(&[]).unwrap();
    assert_eq!(seen.anchors["warren/net1"]["svc_web"].len(), 2, "{:?}", seen.anchors);
    let answer = show("sleep 1; jexec lan nc -w 3 192.0.2.1 8080 </dev/null");
    assert!(answer.contains("hello"), "a published port");
    assert!(rig.runs(me, "nat", "ping -c 1 -t 5 192.0.2.7"), "NAT");
    show("pfctl -vss");
    rig.perform(&Op::KillStates { anchor: policy().anchor, addresses: vec![ip("10.77.0.18")] });
    let left = show("pfctl -ss");
    assert!(!left.contains("10.77.0.18"), "{left}");
    rig.perform(&Op::Drain {
        anchor: policy().anchor,
        addresses: vec![ip("10.77.0.18")],
        wait: Duration::from_secs(5),
    });
    rig.perform(&add.undo().unwrap());
    let answer = show("jexec lan nc -w 3 192.0.2.1 8080 </dev/null; echo $?");
    assert!(!answer.contains("hello"), "with no member the port refuses");
    for op in rig.stop(18) {
        rig.perform(&op);
    }
    rig.perform(&Op::KillJob { job: "main".into() });
    rig.host.forget_job("main").unwrap();
    rig.perform(&load.undo().unwrap());
    rig.perform(&load.undo().unwrap());
    show("jail -r lan; sleep 1; ifconfig epair0a destroy; pfctl -d");
    rig.undo(&network);
}

fn frames_arrive_at_a_hook(rig: &Rig) {
    let network = rig.all(rig.network(None));
    rig.all(rig.instance(19));
    let frames = rig.host.frames(&id(NETWORK).bridge(), 2).unwrap();
    rig.perform(&Op::BridgeSeed { bridge: id(NETWORK).bridge(), link: 2, mac: mac(2) });
    std::thread::scope(|scope| {
        scope.spawn(|| rig.runs(id(19), "arp", "ping -c 1 -t 1 10.77.0.250; true"));
        let mut buffer = Vec::new();
        let end = Instant::now() + Duration::from_secs(10);
        while Instant::now() < end {
            let got = frames.receive(&mut buffer).unwrap();
            // An ARP request of the instance's.
            if got.is_some() && buffer.get(6..14) == Some(&[2, 0, 0, 0, 9, 19, 8, 6]) {
                println!("ARP: {buffer:02x?}");
                return;
            }
        }
        panic!("no frame");
    });
    drop(frames);
    let listen =
        Op::Listen { name: "dns".into(), address: "10.77.0.1:53".parse().unwrap(), proto: Proto::Udp };
    rig.perform(&listen);
    rig.host.socket("dns").unwrap();
    rig.perform(&listen.undo().unwrap());
    for op in rig.stop(19) {
        rig.perform(&op);
    }
    rig.undo(&network);
}

fn an_uplink_is_put_back(rig: &Rig) {
    // One that is down is brought up, and left so.
    show("ifconfig vtnet0 up");
    let before = show("ifconfig vtnet0; ngctl msg vtnet0: getpromisc; ngctl msg vtnet0: getautosrc");
    let bridge = id(NETWORK).bridge();
    let attach = Op::UplinkAttach { bridge: bridge.clone(), interface: "vtnet0".into() };
    let undo = rig.all(vec![Op::BridgeCreate { bridge: bridge.clone() }, attach.clone()]);
    println!("{}", rig.refuse(&attach));
    // Another network wants it as well, and takes back what it did not get.
    let other = Op::UplinkAttach { bridge: id(NETWORK + 1).bridge(), interface: "vtnet0".into() };
    println!("{}", rig.refuse(&other));
    rig.perform(&other.undo().unwrap());
    let text = show(&format!(
        "ifconfig vtnet0; ngctl show {bridge}:; ngctl msg vtnet0: getpromisc; ngctl msg vtnet0: getautosrc"
    ));
    assert!(text.contains("lower"), "{text}");
    rig.undo(&undo);
    let after = show("ifconfig vtnet0; ngctl msg vtnet0: getpromisc; ngctl msg vtnet0: getautosrc");
    assert_eq!(before, after);
}
