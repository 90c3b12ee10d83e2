//! Networks and instances, made and removed by the operations the engine uses.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use super::harness::eventually;
use warren::config::spec::{CommandLine, TemplateSource};
use warren::host::lab::Lab;
use warren::host::{Failure, Guard, Host, Jail, Job, Mount, NoWitness, Op, Reply};
use warren::ids::Id;

pub fn perform(lab: &Lab, op: &Op) -> Reply {
    lab.perform(op, &NoWitness).unwrap_or_else(|failure| panic!("{op:?}: {failure}"))
}

pub fn fails(lab: &Lab, op: &Op) -> Failure {
    match lab.perform(op, &NoWitness) {
        Ok(reply) => panic!("{op:?} succeeded: {reply:?}"),
        Err(failure) => failure,
    }
}

/// A network: 10.77.0.0/24 and fd77::/64, its bridge and gateway.
pub struct Network {
    pub id: Id,
}

impl Network {
    pub const MAC: [u8; 6] = [2, 0x77, 0, 0, 0, 1];

    pub fn ops(id: Id) -> Vec<Op> {
        let (bridge, node) = (id.bridge(), id.gateway());
        vec![
            Op::BridgeCreate { bridge: bridge.clone() },
            Op::EifaceCreate { node: node.clone(), mac: Self::MAC, mtu: 1500 },
            Op::LinkConnect { node: node.clone(), bridge: bridge.clone(), link: 1, guarded: false },
            Op::LinkOpen { node: node.clone(), bridge, link: 1, guard: None, mac: Self::MAC },
            Op::IfConfigure {
                interface: node,
                jail: None,
                addresses: vec!["10.77.0.1/24".parse().unwrap(), "fd77::1/64".parse().unwrap()],
                routes: Vec::new(),
                loopback: false,
            },
        ]
    }

    pub fn new(lab: &Lab, random: u64) -> Self {
        let id = Id::from_random(random);
        for op in Self::ops(id) {
            perform(lab, &op);
        }
        Self { id }
    }

    pub fn remove(self, lab: &Lab) {
        undo(lab, &Self::ops(self.id));
    }
}

/// Nothing is left. The keeper learns of the end of killed jobs a moment after the kernel has seen it.
pub fn assert_empty(lab: &Lab) {
    eventually("nothing is left in the lab", || {
        let mut left = lab.observe(&[]).unwrap();
        let only_jobs = !left.jobs.is_empty();
        left.jobs.clear();
        assert!(left.is_empty(), "{left:?}");
        !only_jobs
    });
}

/// Performs the undoing of each, last first.
pub fn undo(lab: &Lab, ops: &[Op]) {
    for op in ops.iter().rev().filter_map(Op::undo) {
        perform(lab, &op);
    }
}

/// An instance on a clone of the host's root, with one link if there is a network.
pub struct Instance {
    pub id: Id,
    pub ops: Vec<Op>,
}

impl Instance {
    pub fn mac(number: u8) -> [u8; 6] {
        [2, 0x77, 0, 0, 1, number]
    }

    pub fn address(number: u8) -> IpAddr {
        IpAddr::from([10, 77, 0, number])
    }

    /// The steps of a start, in the engine's order.
    pub fn ops(lab: &Lab, network: Option<&Network>, number: u8) -> (Id, Vec<Op>) {
        let id = Id::from_random(0x55aa_0000 + u64::from(number) * 0x1_0001);
        let root = lab.root(id.as_str());
        let mount = |fstype: &str, target: &str| {
            Op::Mount(Mount {
                root: root.clone(),
                target: target.into(),
                fstype: fstype.into(),
                source: fstype.into(),
                options: Vec::new(),
                read_only: false,
                stacked: false,
            })
        };
        let mut ops = vec![
            Op::CloneCreate { name: id.to_string(), source: TemplateSource::Host },
            mount("devfs", "/dev"),
            mount("procfs", "/proc"),
            mount("tmpfs", "/var/cache/scratch"),
            Op::JailCreate(Jail {
                name: id.jail(),
                path: root.clone(),
                hostname: format!("web-{id}"),
                vnet: true,
                addresses: Vec::new(),
                params: BTreeMap::new(),
            }),
        ];
        if let Some(network) = network {
            let (node, bridge, link, mac) =
                (id.node(), network.id.bridge(), u32::from(number), Self::mac(number));
            let v6: IpAddr = format!("fd77::{number:x}").parse().unwrap();
            let addresses = vec![Self::address(number), v6];
            ops.extend([
                Op::EifaceCreate { node: node.clone(), mac, mtu: 1500 },
                Op::LinkConnect { node: node.clone(), bridge: bridge.clone(), link, guarded: true },
                Op::IfMoveIn { interface: node.clone(), jail: id.jail(), inside: "eth0".into() },
                Op::IfConfigure {
                    interface: "eth0".into(),
                    jail: Some(id.jail()),
                    addresses: vec![
                        format!("{}/24", addresses[0]).parse().unwrap(),
                        format!("{}/64", addresses[1]).parse().unwrap(),
                    ],
                    routes: vec!["10.77.0.1".parse().unwrap(), "fd77::1".parse().unwrap()],
                    loopback: true,
                },
                Op::LinkOpen { node, bridge, link, guard: Some(Guard { mac, addresses }), mac },
            ]);
        }
        ops.push(Op::WriteFile {
            root,
            path: "/etc/resolv.conf".into(),
            contents: "nameserver 10.77.0.1\n".into(),
        });
        (id, ops)
    }

    pub fn new(lab: &Lab, network: Option<&Network>, number: u8) -> Self {
        let (id, ops) = Self::ops(lab, network, number);
        for op in &ops {
            perform(lab, op);
        }
        Self { id, ops }
    }

    pub fn remove(self, lab: &Lab) {
        perform(lab, &Op::JailTerm { jail: self.id.jail(), wait: Duration::from_secs(1) });
        perform(lab, &Op::JailKill { jail: self.id.jail() });
        undo(lab, &self.ops);
    }

    fn job(&self, id: &str, command: &str, inside: bool) -> Job {
        Job {
            id: id.to_owned(),
            jail: inside.then(|| self.id.jail()),
            command: CommandLine::Argv(vec!["/bin/sh".into(), "-c".into(), command.into()]),
            env: BTreeMap::new(),
            clean_env: true,
            user: None,
            system_jail_user: false,
            fib: None,
            timeout: Some(Duration::from_secs(60)),
            log: self.id.to_string(),
            consolelog: None,
            console_below: None,
        }
    }

    /// Runs a shell command in the jail to its end.
    pub fn run(&self, lab: &Lab, command: &str) -> Result<Reply, Failure> {
        let job = self.job(&fresh(&self.id.to_string()), command, true);
        lab.perform(&Op::Run(job), &NoWitness)
    }

    /// Starts a shell command in the jail.
    pub fn spawn(&self, lab: &Lab, command: &str) -> String {
        let job = Job { timeout: None, ..self.job(&fresh(&self.id.to_string()), command, true) };
        let id = job.id.clone();
        perform(lab, &Op::Spawn(job));
        id
    }

    /// Runs a shell command in the jail and gives what it printed.
    pub fn output(&self, lab: &Lab, command: &str) -> String {
        let (read, write) = std::io::pipe().unwrap();
        let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        let job = Job { timeout: None, ..self.job(&fresh(&self.id.to_string()), command, true) };
        let error = write.try_clone().unwrap();
        lab.exec(&job, [null, write.into(), error.into()], false)
            .unwrap_or_else(|failure| panic!("{failure}"));
        std::io::read_to_string(read).unwrap()
    }
}

/// A job id that was never used.
pub fn fresh(prefix: &str) -> String {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    format!(
        "{prefix}.test.{}.{}",
        std::process::id(),
        NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
    )
}
