//! Two namespaces, a veth pair, the engine on one end and a client on the other.

use std::collections::VecDeque;
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use warren_dhcp::Mac;
use warren_dhcp::ipam::{AssignRequest, Ipam, MacWant, Network, Owner, Want};
use warren_dhcp::server::{Action, Event, IpamView, LeaseTable, Server, ServerConfig};
use warren_dhcp::wire::{Message, MessageType, Payload, code, parse_frame};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const PATIENCE: Duration = Duration::from_secs(60);

/// What was seen on the wire and then acknowledged, or else happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    Selecting { address: Ipv4Addr },
    InitReboot { address: Ipv4Addr },
    Renewing { address: Ipv4Addr },
    Rebinding { address: Ipv4Addr },
    Refused,
    Released,
    Other,
}

struct State {
    ipam: Ipam,
    mute_unicast: bool,
    stop: bool,
}

pub struct Rig {
    name: String,
    mac: Mac,
    owner: Owner,
    state: Arc<Mutex<State>>,
    seen: Receiver<(Seen, String)>,
    past: VecDeque<String>,
    pump: Option<JoinHandle<()>>,
    child: Option<Child>,
}

fn sh(line: &str) {
    let out = Command::new("sh").args(["-ec", line]).output().expect("sh");
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
}

impl Rig {
    pub fn new(client: &str, lease_s: u32) -> Rig {
        let name = format!("wt{}{client}", std::process::id());
        let mac: Mac = "02:00:5e:00:53:77".parse().unwrap();
        sh(&format!(
            "ip netns add {name}c; ip netns add {name}s
             ip -n {name}c link add c0 address {mac} type veth peer name s0 netns {name}s
             ip -n {name}c link set lo up; ip -n {name}c link set c0 up; ip -n {name}s link set s0 up
             rm -rf /tmp/{name}; mkdir /tmp/{name} /tmp/{name}/db"
        ));
        let owner = Owner::new(client).unwrap();
        let mut ipam = Ipam::new();
        let network = Network::new("net", Some("10.9.0.0/24".parse().unwrap()), None);
        ipam.apply(&ipam.decide_add_network(&network).unwrap()).unwrap();
        assign(&mut ipam, &owner, mac, [10, 9, 0, 50].into());
        let state = Arc::new(Mutex::new(State { ipam, mute_unicast: false, stop: false }));

        let mut config =
            ServerConfig::new("02:00:5e:00:53:01".parse().unwrap(), SERVER, "10.9.0.0/24".parse().unwrap());
        config.gateway = Some([10, 9, 0, 1].into());
        config.dns = vec![[10, 9, 0, 1].into()];
        config.domain = Some("shop.internal".into());
        config.search = vec!["shop.internal".into(), "internal".into()];
        config.ntp = vec![[10, 9, 0, 1].into()];
        config.routes = vec![("10.10.0.0/16".parse().unwrap(), [10, 9, 0, 1].into())];
        config.lease = warren_dhcp::server::LeaseTimes { default_s: lease_s, min_s: lease_s, max_s: lease_s };
        let server = Server::new(config).unwrap();
        let (send, seen) = channel();
        let (shared, space) = (state.clone(), format!("{name}s"));
        let pump = std::thread::spawn(move || pump(server, &space, &shared, &send));
        Rig { name, mac, owner, state, seen, past: VecDeque::new(), pump: Some(pump), child: None }
    }

    pub fn dir(&self) -> String {
        format!("/tmp/{}", self.name)
    }

    pub fn script(&self, name: &str, body: &str) -> String {
        let path = format!("{}/{name}", self.dir());
        fs::write(&path, format!("#!/bin/sh\n{body}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    pub fn address(&self) -> Ipv4Addr {
        let state = self.state.lock().unwrap();
        match state.ipam.assignment("net", &self.owner).and_then(|a| a.v4) {
            Some(IpAddr::V4(a)) => a,
            other => panic!("no IPv4 address assigned: {other:?}"),
        }
    }

    /// A command in the client's network namespace and a mount namespace of its own, in which the places where
    /// clients keep their state are the rig's, and resolv.conf and hostname are out of reach.
    fn command(&self, line: &str) -> Command {
        let dir = self.dir();
        let inner = format!(
            "mount --make-rprivate /; mount -t tmpfs run /run
             [ ! -d /var/lib/dhcpcd ] || mount --bind {dir}/db /var/lib/dhcpcd
             : > {dir}/resolv; mount --bind {dir}/resolv \"$(readlink -f /etc/resolv.conf)\"
             exec {line}"
        );
        let mut c = Command::new("ip");
        c.args(["netns", "exec", &format!("{}c", self.name), "unshare", "-m", "--", "sh", "-ec", &inner]);
        c
    }

    pub fn start(&mut self, line: &str) {
        let log =
            fs::OpenOptions::new().create(true).append(true).open(format!("{}/log", self.dir())).unwrap();
        let mut command = self.command(line);
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().expect("client"));
    }

    pub fn run(&mut self, line: &str) {
        let out = self.command(line).output().expect("client");
        assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// The client dies without a word, as in a crash; its address goes with it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            kill_all_in(&format!("{}c", self.name));
            let _ = child.wait();
            sh(&format!("ip -n {}c addr flush dev c0", self.name));
            while self.seen.try_recv().is_ok() {}
        }
    }

    pub fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("a running client");
        sh(&format!("kill -{signal} {}", child.id()));
    }

    /// The client's kernel asks for the server's Ethernet address now. dhcpcd takes its address off right behind its
    /// RELEASE, and a datagram that still waits for ARP is lost with the address.
    pub fn resolve_server(&self) {
        let space = format!("{}c", self.name);
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            // The server answers ARP and no echo: ping's own verdict says nothing.
            let _ = Command::new("ip")
                .args(["netns", "exec", &space, "ping", "-c1", "-W1", "10.9.0.2"])
                .stdout(Stdio::null())
                .status();
            let known = Command::new("ip").args(["-n", &space, "neigh", "show", "10.9.0.2"]).output();
            let known = known.expect("ip").stdout;
            let known = String::from_utf8_lossy(&known);
            if known.contains("lladdr") {
                return;
            }
            assert!(Instant::now() < end, "the server does not answer ARP: {known:?}");
        }
    }

    pub fn mute_unicast(&self, mute: bool) {
        self.state.lock().unwrap().mute_unicast = mute;
    }

    pub fn move_reservation(&self) {
        let mut state = self.state.lock().unwrap();
        let change = state.ipam.decide_release("net", &self.owner, 0).unwrap();
        state.ipam.apply(&change).unwrap();
        assign(&mut state.ipam, &self.owner, self.mac, [10, 9, 0, 60].into());
    }

    pub fn expect(&mut self, what: &str, wanted: impl Fn(&Seen) -> bool) {
        let end = Instant::now() + PATIENCE;
        while let Ok((seen, text)) = self.seen.recv_timeout(end.saturating_duration_since(Instant::now())) {
            self.past.push_back(text);
            if wanted(&seen) {
                return;
            }
        }
        let log = fs::read_to_string(format!("{}/log", self.dir())).unwrap_or_default();
        panic!("did not see {what}; seen:\n{:#?}\nthe client said:\n{log}", self.past);
    }

    pub fn expect_refused(&mut self) {
        self.expect("a refusal of the old address", |s| *s == Seen::Refused);
    }

    pub fn expect_released(&mut self) {
        self.expect("a release", |s| *s == Seen::Released);
    }

    /// The interface has the reserved address, now or soon.
    pub fn expect_address(&self) {
        let wanted = format!("inet {}/24 ", self.address());
        let end = Instant::now() + PATIENCE;
        loop {
            let space = format!("{}c", self.name);
            let out = Command::new("ip").args(["-n", &space, "-4", "-o", "addr", "show", "c0"]).output();
            let shown = out.expect("ip").stdout;
            let shown = String::from_utf8_lossy(&shown);
            if shown.contains(&wanted) && shown.matches("inet ").count() == 1 {
                return;
            }
            let log = || fs::read_to_string(format!("{}/log", self.dir())).unwrap_or_default();
            assert!(Instant::now() < end, "wanted {wanted}, have {shown}\nthe client said:\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        kill_all_in(&format!("{}c", self.name));
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
        if let Ok(mut state) = self.state.lock() {
            state.stop = true;
        }
        if let Some(pump) = self.pump.take() {
            let _ = pump.join();
        }
        for line in
            [format!("ip netns del {0}c; ip netns del {0}s", self.name), format!("rm -r {}", self.dir())]
        {
            let _ = Command::new("sh").args(["-c", &line]).status();
        }
    }
}

/// The processes of our own namespace, which nothing else ever enters.
fn kill_all_in(namespace: &str) {
    let _ = Command::new("sh")
        .args(["-c", &format!("ip netns pids {namespace} | xargs -r kill -9 2>/dev/null")])
        .status();
}

fn assign(ipam: &mut Ipam, owner: &Owner, mac: Mac, address: Ipv4Addr) {
    let change = ipam.decide_assign(&AssignRequest {
        network: "net",
        owner,
        v4: Want::Fixed { address: address.into(), force: false },
        v6: Want::Nothing,
        mac: MacWant::Fixed(mac),
        now: 0,
    });
    ipam.apply(&change.unwrap()).unwrap();
}

fn pump(mut server: Server, namespace: &str, shared: &Mutex<State>, seen: &Sender<(Seen, String)>) {
    let mut socket = crate::packet::open_in(namespace, "s0");
    let mut leases = LeaseTable::new();
    let mut buffer = [0u8; 2048];
    loop {
        let read = socket.read(&mut buffer);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let state = shared.lock().unwrap();
        if state.stop {
            return;
        }
        let Ok(n) = read else { continue };
        let frame = &buffer[..n];
        let what = describe(frame);
        if state.mute_unicast && matches!(what, Some(Seen::Renewing { .. })) {
            continue;
        }
        let hostname = |owner: &Owner| Some(owner.to_string());
        let view = IpamView { ipam: &state.ipam, network: "net", leases: &leases, hostname };
        let actions = server.handle(frame, now, &view);
        drop(state);
        for action in actions {
            match action {
                Action::Send(frame) => socket.write_all(&frame).unwrap(),
                Action::Persist { change, then } => {
                    leases.apply(&change);
                    if let Some(frame) = then {
                        socket.write_all(&frame).unwrap();
                    }
                }
                Action::Log(event) => {
                    let text = event.to_string();
                    let kind = match event {
                        Event::Acknowledged { .. } => what.clone().unwrap_or(Seen::Other),
                        Event::Refused { .. } => Seen::Refused,
                        Event::Released { .. } => Seen::Released,
                        _ => Seen::Other,
                    };
                    let _ = seen.send((kind.clone(), format!("{text} [{kind:?}]")));
                }
            }
        }
    }
}

/// The client's state, read off its REQUEST independently of the engine.
fn describe(frame: &[u8]) -> Option<Seen> {
    let Payload::Udp4(udp) = parse_frame(frame).ok()?.payload else { return None };
    let m = Message::parse(udp.payload).ok().filter(|m| m.kind == MessageType::Request)?;
    let (asked, server) = (m.options.ipv4(code::REQUESTED_IP), m.options.ipv4(code::SERVER_ID));
    Some(match (server, asked, m.ciaddr) {
        (Some(_), Some(address), _) => Seen::Selecting { address },
        (None, Some(address), Ipv4Addr::UNSPECIFIED) => Seen::InitReboot { address },
        (None, None, address) if udp.dst == SERVER => Seen::Renewing { address },
        (None, None, address) => Seen::Rebinding { address },
        _ => Seen::Other,
    })
}
