//! What is asked. Answers have no node ids in them: those differ.

use std::time::Duration;
use warren_netgraph::bpf::{Insn, Program, code};
use warren_netgraph::codec::bridge::{Config, LinkNumber, LinkStats};
use warren_netgraph::codec::{self, Message};
use warren_netgraph::data::DataSocket;
use warren_netgraph::guard::{self, Guard};
use warren_netgraph::transport::Transport;
use warren_netgraph::{Errno, Error, Handle, HookName, Mac, NodeId, NodeName, NodeRef, SockaddrNg};

/// A netgraph to ask.
pub struct Subject {
    pub handle: Handle<Box<dyn Transport>>,
    pub data: Box<dyn DataSocket>,
    /// Another control socket, with the default receive buffer and losses reported.
    pub plain: Box<dyn Fn() -> Box<dyn Transport>>,
    /// How long what is queued may take.
    pub settle: Duration,
    /// Lets seconds pass.
    pub pass: Box<dyn Fn(u64)>,
}

struct Asked {
    subject: Subject,
    lines: Vec<String>,
    topic: &'static str,
}

pub fn run(subject: Subject) -> Vec<String> {
    let mut asked = Asked { subject, lines: Vec::new(), topic: "" };
    asked.generic();
    asked.wire();
    asked.losses();
    asked.eiface();
    asked.learning();
    asked.restrictive();
    asked.loops();
    asked.frozen();
    asked.filters();
    asked.hubs();
    asked.lines
}

fn outcome<T>(result: Result<T, Error>, show: impl FnOnce(T) -> String) -> String {
    match result {
        Ok(value) => show(value),
        Err(e) => e.errno().map_or_else(|| e.to_string(), |errno| errno.name().to_owned()),
    }
}

fn done(result: Result<(), Error>) -> String {
    outcome(result, |()| "done".into())
}

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

fn frame(to: Mac, from: Mac) -> Vec<u8> {
    [&to.0[..], &from.0, &[0x88, 0xb5], b"payload of an experiment"].concat()
}

fn stats(s: LinkStats) -> String {
    format!(
        "recv {}/{} multi {} broad {} unknown {} runts {} invalid {}; xmit {}/{} multi {} broad {}; loop {}/{}",
        s.recv_packets,
        s.recv_octets,
        s.recv_multicasts,
        s.recv_broadcasts,
        s.recv_unknown,
        s.recv_runts,
        s.recv_invalid,
        s.xmit_packets,
        s.xmit_octets,
        s.xmit_multicasts,
        s.xmit_broadcasts,
        s.loop_drops,
        s.loop_detects
    )
}

impl Asked {
    fn say(&mut self, what: impl std::fmt::Display, answer: String) {
        self.lines.push(format!("{}: {what}: {answer}", self.topic));
    }

    fn h(&self) -> &Handle<Box<dyn Transport>> {
        &self.subject.handle
    }

    /// A node on the socket's hook; it may be called by this id.
    fn make(&self, node_type: &str, hook: &str, theirs: &str) -> NodeId {
        self.h().node(NodeRef::Own).mkpeer(node_type, hook, theirs).unwrap();
        self.h().node(NodeRef::Own).peer(hook).unwrap().id
    }

    /// Sends a frame out of a hook of the socket; says by which hooks it, or what became of it, comes back.
    fn send(&mut self, what: &str, hook: &str, bytes: &[u8]) {
        let sent = self.subject.data.send(&HookName::new(hook).unwrap(), bytes);
        let mut came = Vec::new();
        let mut buffer = vec![0; 20_000];
        while let Ok(Some((hook, len))) = self.subject.data.receive(&mut buffer, self.subject.settle) {
            let how = if buffer[..len] == *bytes { String::new() } else { format!(" ({len} bytes)") };
            came.push(format!("{hook}{how}"));
        }
        came.sort();
        // The errno of a frame is the receiving node's, if it ran at once: not something to rely on.
        let _ = sent;
        let came = if came.is_empty() { "nowhere".into() } else { came.join(" ") };
        self.say(format_args!("{what} from {hook}"), came);
    }

    fn table(&mut self, bridge: NodeId) {
        let table = outcome(self.h().bridge(bridge).table(), |mut hosts| {
            hosts.sort();
            hosts.iter().map(|h| format!("{}@{}", h.mac, h.hook)).collect::<Vec<_>>().join(" ")
        });
        self.say("table", table);
    }

    fn counters(&mut self, bridge: NodeId, link: LinkNumber) {
        let counters = outcome(self.h().bridge(bridge).stats(link), stats);
        self.say(link, counters);
    }

    fn generic(&mut self) {
        self.topic = "generic";
        let own = NodeRef::Own;
        let r = done(self.h().node(own).mkpeer("socket", "a", "x"));
        self.say("mkpeer socket", r);
        let r = done(self.h().node(own).mkpeer("frobnicator", "a", "x"));
        self.say("mkpeer of an unknown type", r);
        for hook in ["none", ""] {
            let sent = self.subject.data.send(&HookName::from_wire(hook.as_bytes()), b"data");
            let r = sent.map_or_else(
                |e| Errno::from_io(&e).map_or(e.to_string(), |e| e.name().into()),
                |()| "sent".into(),
            );
            self.say(format_args!("data to {hook:?}"), r);
        }
        let r = done(self.h().node(own).mkpeer("bridge", "a", "x"));
        self.say("mkpeer bridge x", r);
        for link in ["link", "uplink", "uplink0", "link01", "linkx", "link4294967296"] {
            let r = done(self.h().node(own).mkpeer("bridge", "a", link));
            self.say(format_args!("mkpeer bridge {link}"), r);
            // 15 numbers a bare `link` by itself.
            let _ = self.h().node(own).rmhook("a");
        }
        let hub = self.make("hub", "a", "x");
        let r = done(self.h().node(own).mkpeer("hub", "a", "x"));
        self.say("mkpeer on a taken hook", r);
        let r = outcome(self.h().node(hub).info(), |i| format!("{:?} {} {}", i.name, i.node_type, i.hooks));
        self.say("nodeinfo", r);
        for name in ["wt-one", "wt-one", "wt-two"] {
            let r = done(self.h().node(hub).set_name(name));
            self.say(format_args!("name {name}"), r);
        }
        let other = self.make("hub", "b", "x");
        let r = done(self.h().node(other).set_name("wt-two"));
        self.say("a taken name", r);
        for bad in ["", "a.b", "a:b", "[1f]", "[0x1f]", "[xyz]", "[0]"] {
            let request = codec::generic::Name { name: NodeName::from_wire(bad.as_bytes()) };
            let r = done(self.h().request(other, &request));
            self.say(format_args!("name {bad:?}"), r);
        }
        for path in [
            "wt-two:",
            "wt-two:x",
            "wt-two:y",
            "a",
            "a.x",
            ".a",
            "a.",
            ".:a",
            ".",
            ".:",
            "a..x",
            "a:x:",
            ":a",
            ":",
            "wt-none:",
            "[fffffff0]:",
            "b.x.a",
            "wt.two:",
        ] {
            let r = outcome(self.h().node(NodeRef::Path(path)).info(), |i| i.node_type.to_string());
            self.say(format_args!("path {path}"), r);
        }
        let node = |asked: &Asked, a: &str, path: &str, b: &str| {
            done(asked.h().node(hub).connect(NodeRef::Path(path), a, b))
        };
        for (a, path, b) in
            [("p", "wt-none:", "q"), ("p", ".", "q"), ("p", ".", "r"), ("s", "wt-two:", "p"), ("x", ".", "t")]
        {
            let r = node(self, a, path, b);
            self.say(format_args!("connect {a} {path} {b}"), r);
        }
        let r = outcome(self.h().node(hub).hooks(), |list| {
            let mut links: Vec<_> = list.links.iter().map(|l| format!("{}-{}", l.ours, l.theirs)).collect();
            links.sort();
            format!("{} {}", list.node.hooks, links.join(" "))
        });
        self.say("listhooks", r);
        for hook in ["p", "p", "never"] {
            let r = done(self.h().node(hub).rmhook(hook));
            self.say(format_args!("rmhook {hook}"), r);
        }
        let r = outcome(self.h().node(hub).text_status(), |text| text);
        self.say("textstatus", r);
        let r = outcome(self.h().bridge(hub).config(), |c| format!("{c:?}"));
        self.say("a bridge's command to a hub", r);
        let r = done(self.h().hub(hub).set_persistent());
        self.say("setpersistent", r);
        let r = done(self.h().node(own).rmhook("a"));
        self.say("rmhook a", r);
        let r = outcome(self.h().node(hub).info(), |i| format!("{} hooks", i.hooks));
        self.say("a persistent hub", r);
        let r = done(self.h().node(own).rmhook("b"));
        self.say("rmhook b", r);
        let r = outcome(self.h().node(other).info(), |i| format!("{} hooks", i.hooks));
        self.say("another hub", r);
        let r = done(self.h().node(hub).shutdown());
        self.say("shutdown", r);
        let r = outcome(self.h().node(hub).info(), |i| format!("{} hooks", i.hooks));
        self.say("after it", r);
    }

    fn wire(&mut self) {
        self.topic = "wire";
        let good = codec::encode(&codec::generic::GetNodeInfo, 5);
        let rmhook = codec::encode(&codec::generic::RmHook { hook: HookName::new("none").unwrap() }, 5);
        let with = |bytes: &[u8], at: usize, value: u32| {
            let mut bytes = bytes.to_vec();
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
            bytes
        };
        let cases: Vec<(&str, Vec<u8>)> = vec![
            ("whole", good.clone()),
            ("another version", [&[7], &good[1..]].concat()),
            ("unknown command", with(&good, 8, 99)),
            ("unknown cookie", with(&good, 20, 4711)),
            ("argument a byte short", with(&rmhook[..rmhook.len() - 1], 4, 31)),
            ("argument a byte long", with(&[&rmhook[..], &[0]].concat(), 4, 33)),
            ("too large", vec![8; 20_481]),
        ];
        let to = SockaddrNg::new(b"[1]:").unwrap();
        let hub = self.make("hub", "w", "x");
        let to = SockaddrNg::new(format!("{hub}:").as_bytes()).unwrap_or(to);
        for (what, bytes) in cases {
            let sent = self.h().with_transport(|t| t.send(&to, &bytes));
            let r = match sent {
                Ok(()) => "sent".to_owned(),
                Err(e) => Errno::from_io(&e).map_or(e.to_string(), |errno| errno.name().to_owned()),
            };
            self.say(what, r);
        }
        let reply = self.h().with_transport(|t| t.receive(Duration::from_secs(5))).unwrap().unwrap();
        let header = Message::parse(&reply.message).unwrap().header;
        let text = format!(
            "token {} flags {} command {:#x} arglen {} from it {}",
            header.token,
            header.flags,
            header.command,
            header.arglen,
            reply.from.text() == format!("{hub}:").as_bytes()
        );
        self.say("reply", text);
        self.h().node(NodeRef::Own).rmhook("w").unwrap();
    }

    fn losses(&mut self) {
        self.topic = "losses";
        let hub = self.make("hub", "l", "x");
        // 20480 bytes, an address of 16: 149 hooks fit, 150 do not.
        for n in 0..74 {
            self.h().node(hub).connect(hub, &format!("a{n}"), &format!("b{n}")).unwrap();
        }
        let mut socket = (self.subject.plain)();
        let to = SockaddrNg::new(format!("{hub}:").as_bytes()).unwrap();
        for hooks in [149, 150] {
            if hooks == 150 {
                self.h().node(NodeRef::Own).connect(hub, "m", "y").unwrap();
            }
            let errno = |e| Errno::from_io(&e).map_or(e.to_string(), |errno| errno.name().to_owned());
            let sent = socket.send(&to, &codec::encode(&codec::generic::ListHooks, 7));
            self.say(format_args!("asked for {hooks} hooks"), sent.map_or_else(errno, |()| "sent".into()));
            // Something comes in either case, and nothing after it.
            for wait in [Duration::from_secs(5), self.subject.settle] {
                let r = match socket.receive(wait) {
                    Ok(Some(received)) => format!("{} bytes", received.message.len()),
                    Ok(None) => "nothing".into(),
                    Err(e) => errno(e),
                };
                self.say("received", r);
            }
        }
        self.h().node(hub).shutdown().unwrap();
    }

    fn eiface(&mut self) {
        self.topic = "eiface";
        let own = NodeRef::Own;
        let r = done(self.h().node(own).mkpeer("eiface", "e", "other"));
        self.say("mkpeer with another hook", r);
        let node = self.make("eiface", "e", "ether");
        let name = self.h().eiface(node).ifname().unwrap();
        let r = outcome(self.h().node(node).info(), |i| format!("{}", i.name == name.as_str()));
        self.say("named as its interface", r);
        let r = done(self.h().node(own).connect(node, "e2", "ether"));
        self.say("a second ether", r);
        let r = done(self.h().node(own).connect(node, "e2", "other"));
        self.say("another hook", r);
        let r = done(self.h().eiface(node).set_mac(mac(0x77)));
        self.say("set", r);
        let r = outcome(self.h().eiface(node).addresses(), |a| format!("{:?}", a.mac()));
        self.say("getifaddrs", r);
        let r = outcome(self.h().request(node, &codec::bridge::GetConfig), |_| "a configuration".into());
        self.say("a bridge's command", r);
        self.h().node(own).rmhook("e").unwrap();
        let r = outcome(self.h().node(node).info(), |i| format!("{} hooks", i.hooks));
        self.say("without hooks", r);
        let r = done(self.h().node(node).shutdown());
        self.say("shutdown", r);
        let r = outcome(self.h().node(node).info(), |i| format!("{} hooks", i.hooks));
        self.say("after it", r);
    }

    /// A bridge with these links on hooks of the socket that are called the same.
    fn bridge(&self, links: &[&str]) -> NodeId {
        let bridge = self.make("bridge", links[0], links[0]);
        for link in &links[1..] {
            self.h().node(NodeRef::Own).connect(bridge, link, link).unwrap();
        }
        bridge
    }

    fn learning(&mut self) {
        self.topic = "learning";
        let bridge = self.bridge(&["link1", "link2", "link3", "uplink1"]);
        let r = outcome(self.h().bridge(bridge).config(), |c| format!("{c:?}"));
        self.say("defaults", r);
        self.send("unknown", "link1", &frame(mac(2), mac(1)));
        self.send("known", "link2", &frame(mac(1), mac(2)));
        self.send("known", "link1", &frame(mac(2), mac(1)));
        self.send("from an uplink", "uplink1", &frame(mac(9), mac(8)));
        self.send("to what an uplink sent", "link1", &frame(mac(8), mac(1)));
        self.send("broadcast", "link3", &frame(Mac::BROADCAST, mac(3)));
        self.send("multicast", "link3", &frame(Mac([1, 0, 0x5e, 0, 0, 5]), mac(3)));
        self.send("to itself", "link1", &frame(mac(1), mac(1)));
        self.send("a group as source", "link1", &frame(mac(2), Mac::BROADCAST));
        self.send("13 bytes", "link1", &frame(mac(2), mac(1))[..13]);
        self.table(bridge);
        for link in [LinkNumber::Link(1), LinkNumber::Link(2), LinkNumber::Link(3), LinkNumber::Uplink(1)] {
            self.counters(bridge, link);
        }
        self.counters(bridge, LinkNumber::Link(7));
        let r = done(self.h().bridge(bridge).move_host(mac(5), "link3"));
        self.say("movehost", r);
        self.send("to it", "link1", &frame(mac(5), mac(1)));
        let r = done(self.h().bridge(bridge).move_host(mac(5), "link9"));
        self.say("movehost nowhere", r);
        let r = done(self.h().bridge(bridge).move_host(mac(5), "link3"));
        self.say("movehost again", r);
        let here = codec::bridge::MoveHost { mac: mac(6), hook: HookName::from_wire(b"") };
        let r = done(self.h().request(NodeRef::Path("link2"), &here));
        self.say("movehost here", r);
        let r = done(self.h().request(bridge, &here));
        self.say("movehost here, by id", r);
        self.table(bridge);
        let r = outcome(self.h().bridge(bridge).take_stats(LinkNumber::Link(1)), stats);
        self.say("getclrstats", r);
        self.counters(bridge, LinkNumber::Link(1));
        self.h().node(NodeRef::Own).rmhook("link3").unwrap();
        self.table(bridge);
        let r = done(self.h().bridge(bridge).reset());
        self.say("reset", r);
        self.table(bridge);
        let r = done(self.h().node(bridge).connect(NodeRef::Path("."), "link8", "link9"));
        self.say("to itself", r);
        self.h().node(bridge).shutdown().unwrap();
    }

    fn restrictive(&mut self) {
        self.topic = "restrictive";
        let bridge = self.bridge(&["uplink1", "link1", "link2"]);
        self.send("unknown", "link1", &frame(mac(9), mac(1)));
        self.send("unknown", "uplink1", &frame(mac(7), mac(8)));
        self.send("known", "uplink1", &frame(mac(1), mac(8)));
        self.send("broadcast", "link2", &frame(Mac::BROADCAST, mac(2)));
        self.h().node(bridge).shutdown().unwrap();
    }

    fn loops(&mut self) {
        self.topic = "loops";
        let bridge = self.bridge(&["link1", "link2", "link3"]);
        let config = Config { loop_timeout: 2, min_stable_age: 2, ..Config::default() };
        self.h().bridge(bridge).set_config(config).unwrap();
        self.send("broadcast", "link1", &frame(Mac::BROADCAST, mac(1)));
        self.send("broadcast", "link2", &frame(Mac::BROADCAST, mac(2)));
        self.send("a known source", "link2", &frame(Mac::BROADCAST, mac(1)));
        self.send("its own source", "link2", &frame(Mac::BROADCAST, mac(2)));
        self.table(bridge);
        self.counters(bridge, LinkNumber::Link(2));
        let r = done(self.h().bridge(bridge).move_host(mac(1), "link3"));
        self.say("movehost of a young entry", r);
        (self.subject.pass)(4);
        self.send("its own source, later", "link2", &frame(Mac::BROADCAST, mac(2)));
        self.send("a known source, later", "link2", &frame(Mac::BROADCAST, mac(1)));
        self.table(bridge);
        self.h().bridge(bridge).set_config(Config { max_staleness: 2, ..config }).unwrap();
        (self.subject.pass)(3);
        self.table(bridge);
        self.h().node(bridge).shutdown().unwrap();
    }

    fn frozen(&mut self) {
        self.topic = "frozen";
        let bridge = self.bridge(&["link1", "link2", "link3", "uplink1"]);
        self.h().bridge(bridge).set_config(Config::FROZEN).unwrap();
        for n in 1..4 {
            self.h().bridge(bridge).move_host(mac(n), &format!("link{n}")).unwrap();
        }
        (self.subject.pass)(2);
        self.send("a stolen source", "link2", &frame(mac(3), mac(1)));
        self.send("to the victim", "link3", &frame(mac(1), mac(3)));
        self.table(bridge);
        self.counters(bridge, LinkNumber::Link(2));
        self.send("the thief's own", "link2", &frame(mac(3), mac(2)));
        self.send("a stolen source", "uplink1", &frame(mac(3), mac(1)));
        self.table(bridge);
        self.counters(bridge, LinkNumber::Uplink(1));
        self.h().node(bridge).shutdown().unwrap();
    }

    fn filters(&mut self) {
        self.topic = "filters";
        let bpf = self.make("bpf", "jail", "jail");
        self.h().node(NodeRef::Own).connect(bpf, "net", "net").unwrap();
        self.send("a new hook", "jail", &frame(mac(2), mac(1)));
        let r = outcome(self.h().bpf(bpf).program("jail"), |p| format!("{:?}", p));
        self.say("its program", r);
        let f = |code, jt, jf, k| {
            Program(vec![Insn { code, jt, jf, k }, Insn { code: code::RET, jt: 0, jf: 0, k: 9 }])
        };
        for (what, program) in [
            ("no return", Program(vec![Insn { code: code::LD, jt: 0, jf: 0, k: 0 }])),
            ("jump out", f(code::JMP | code::JEQ, 0, 1, 0)),
            ("far jump out", f(code::JMP, 0, 0, u32::MAX)),
            ("scratch word 16", f(code::ST, 0, 0, 16)),
            ("division by zero", f(code::ALU | code::DIV, 0, 0, 0)),
            ("modulo zero", f(code::ALU | code::MOD, 0, 0, 0)),
            ("unknown code", f(0xff, 0, 0, 0)),
            ("513 instructions", Program(vec![Insn { code: code::RET, jt: 0, jf: 0, k: 0 }; 513])),
            ("512 instructions", Program(vec![Insn { code: code::RET, jt: 0, jf: 0, k: 0 }; 512])),
            ("fine", f(code::LD, 0, 0, 0)),
        ] {
            // Past the handle, which would not send most of these.
            let name = |hook: &str| HookName::new(hook).unwrap();
            let (hook, if_match, if_not_match) = (name("jail"), name("net"), name("jail"));
            let request = codec::bpf::HookProgram { hook, if_match, if_not_match, program };
            let r = done(self.h().request(bpf, &request));
            self.say(what, r);
        }
        self.send("cut to nine bytes", "jail", &frame(mac(2), mac(1)));
        let r = done(self.h().bpf(bpf).set_program("none", "", "", &guard::open()));
        self.say("no such hook", r);
        let r = outcome(self.h().bpf(bpf).stats("none"), |_| "counters".into());
        self.say("counters of no such hook", r);

        let guard = Guard {
            mac: mac(1),
            v4: vec![[10, 0, 0, 1].into()],
            v6: vec!["fd00::1".parse().unwrap()],
            allow_dhcp: true,
        };
        self.h().bpf(bpf).set_program("jail", "net", "", &guard.program().unwrap()).unwrap();
        self.h().bpf(bpf).set_program("net", "jail", "", &guard::open()).unwrap();
        let ip = |source: [u8; 4], protocol: u8, ports: [u8; 4]| {
            let mut f = frame(Mac::BROADCAST, mac(1));
            f.truncate(12);
            f.extend([8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0]);
            f.extend(source);
            f.extend([255; 4]);
            f.extend(ports);
            f.extend([0, 8, 0, 0]);
            f
        };
        let arp = |spa: [u8; 4]| {
            let mut f = frame(Mac::BROADCAST, mac(1));
            f.truncate(12);
            f.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
            f.extend(mac(1).0);
            f.extend(spa);
            f.extend([0, 0, 0, 0, 0, 0, 10, 0, 0, 9]);
            f
        };
        for (what, bytes) in [
            ("its address", ip([10, 0, 0, 1], 6, [0; 4])),
            ("another address", ip([10, 0, 0, 2], 6, [0; 4])),
            ("a discover", ip([0; 4], 17, [0, 68, 0, 67])),
            ("an offer", ip([10, 0, 0, 1], 17, [0, 67, 0, 68])),
            ("its ARP", arp([10, 0, 0, 1])),
            ("another's ARP", arp([10, 0, 0, 9])),
            ("a probe", arp([0; 4])),
            ("an experiment", frame(mac(2), mac(1))),
        ] {
            self.send(what, "jail", &bytes);
        }
        self.send("anything", "net", b"anything");
        for hook in ["jail", "net"] {
            let r = outcome(self.h().bpf(bpf).take_stats(hook), |s| format!("{s:?}"));
            self.say(format_args!("counters of {hook}"), r);
        }
        // A hook by its name, when it comes and goes.
        self.h().bpf(bpf).set_program("jail", "late", "", &guard::open()).unwrap();
        self.send("before it is there", "jail", b"anything");
        self.h().node(NodeRef::Own).connect(bpf, "late", "late").unwrap();
        self.send("when it is there", "jail", b"anything");
        self.h().node(NodeRef::Own).rmhook("late").unwrap();
        self.send("when it is gone", "jail", b"anything");
        self.h().node(bpf).shutdown().unwrap();
    }

    fn hubs(&mut self) {
        self.topic = "hubs";
        let hub = self.make("hub", "h1", "x");
        self.send("alone", "h1", b"anything");
        for hook in ["h2", "h3"] {
            self.h().node(NodeRef::Own).connect(hub, hook, hook).unwrap();
        }
        self.send("among three", "h1", b"anything");
        self.h().node(hub).shutdown().unwrap();
    }
}
