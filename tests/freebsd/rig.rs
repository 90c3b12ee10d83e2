//! The machine under test, and what every case makes on it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use warren::config::spec::{CommandLine, ParamValue, TemplateSource};
use warren::firewall::Policy;
use warren::host::freebsd::FreeBsd;
use warren::host::{Guard, Host, Inventory, Jail, Job, Mac, Mount, NoWitness, Op, Reply};
use warren::ids::Id;
pub const STATE: &str = "/tmp/warren";
pub const NETWORK: u64 = 77;
pub const ANCHOR_ID: &str = "net1";

pub struct Rig {
    pub host: FreeBsd,
}

pub fn id(n: u64) -> Id {
    Id::from_random(n * 0x0001_2345_6789)
}

pub fn mac(n: u8) -> Mac {
    [2, 0, 0, 0, 9, n]
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn job(name: &str, jail: Option<String>, command: &str) -> Job {
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
pub fn show(command: &str) -> String {
    let output = Command::new("/bin/sh").args(["-c", command]).output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("# {command}");
    text.lines().for_each(|line| println!("    {line}"));
    text
}

impl Rig {
    pub fn perform(&self, op: &Op) -> Reply {
        match self.host.perform(op, &NoWitness) {
            Ok(reply) => reply,
            Err(failure) => panic!("{op:?}: {failure} {:?}", failure.errno),
        }
    }

    pub fn refuse(&self, op: &Op) -> String {
        self.host.perform(op, &NoWitness).expect_err(&format!("{op:?}")).to_string()
    }

    /// Does all of it; gives what undoes it, in reverse.
    pub fn all(&self, ops: Vec<Op>) -> Vec<Op> {
        for op in &ops {
            self.perform(op);
        }
        ops.iter().rev().filter_map(Op::undo).collect()
    }

    pub fn undo(&self, undos: &[Op]) {
        for op in undos {
            self.perform(op);
        }
    }

    /// Runs a command in a jail to its end; whether it exited with 0.
    pub fn runs(&self, jail: Id, name: &str, command: &str) -> bool {
        let path = "PATH=/sbin:/bin:/usr/sbin:/usr/bin";
        let job = job(name, Some(jail.jail()), &format!("{path}; {command}"));
        let done = self.host.perform(&Op::Run(job), &NoWitness);
        println!("[{}] {command}: {done:?}", jail.jail());
        self.host.forget_job(name).unwrap();
        done.is_ok()
    }

    pub fn assert_nothing(&self) {
        let left = self.host.observe(&[]).unwrap();
        assert_eq!(left, Inventory::default());
    }

    /// After a failed case, so that the next one starts from nothing.
    pub fn clean(&self) {
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
    pub fn network(&self, policy: Option<Policy>) -> Vec<Op> {
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
    pub fn instance(&self, n: u8) -> Vec<Op> {
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
    pub fn stop(&self, n: u8) -> Vec<Op> {
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

pub fn devfs(root: &Path) -> Op {
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
