//! TAP devices of a real kernel on the userland netgraph: two interfaces on one bridge, in a network namespace of their own.
//!
//! It runs as root, and as anyone who may make a user namespace; where neither is allowed it says so and tests nothing.

#[cfg(target_os = "linux")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    linux::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("tap: Linux only");
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
mod linux {
    use nix::sched::{CloneFlags, unshare};
    use std::fs;
    use std::os::fd::AsRawFd;
    use std::time::Duration;
    use warren_netgraph::codec::bridge::{Config, LinkNumber};
    use warren_netgraph::userland::pump::Pump;
    use warren_netgraph::userland::tap::TapPorts;
    use warren_netgraph::userland::{Detail, Graph};
    use warren_netgraph::{Handle, Mac, NodeId, NodeRef};

    /// Looks until something is so: the pump works on its own thread.
    fn until(what: &str, mut so: impl FnMut() -> bool) {
        for _ in 0..10_000 {
            if so() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("never: {what}");
    }

    /// A request about an interface, with the flags or the name to set.
    fn request(interface: &str, ioctl: libc::c_ulong, set: impl FnOnce(&mut libc::ifreq)) -> libc::ifreq {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        // SAFETY: plain data, for which all zeroes are valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        put(&mut request.ifr_name, interface);
        set(&mut request);
        // SAFETY: an open socket, and a request that reads and writes one `struct ifreq`.
        let done = unsafe { libc::ioctl(socket.as_raw_fd(), ioctl as libc::Ioctl, &mut request) };
        assert_eq!(done, 0, "{interface}: {}", std::io::Error::last_os_error());
        request
    }

    fn put(to: &mut [libc::c_char], from: &str) {
        to.iter_mut().zip(from.bytes()).for_each(|(to, from)| *to = from as libc::c_char);
    }

    fn rename(interface: &str, name: &str) {
        // SAFETY: an array of bytes may be written as one.
        request(interface, libc::SIOCSIFNAME as _, |r| put(unsafe { &mut r.ifr_ifru.ifru_newname }, name));
    }

    fn up(interface: &str) {
        request(interface, libc::SIOCSIFFLAGS as _, |r| r.ifr_ifru.ifru_flags = libc::IFF_UP as _);
    }

    /// Whether it is up and has a carrier.
    fn running(interface: &str) -> bool {
        let answer = request(interface, libc::SIOCGIFFLAGS as _, |_| ());
        // SAFETY: the request has filled in this member.
        i32::from(unsafe { answer.ifr_ifru.ifru_flags }) & libc::IFF_RUNNING != 0
    }

    /// Frames the interface's stack has received, from /proc/net/dev; `None` if there is no such interface.
    fn received(interface: &str) -> Option<u64> {
        let table = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        let line = table.lines().find_map(|line| line.trim().strip_prefix(&format!("{interface}:")))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    pub fn main() -> Result<(), Box<dyn std::error::Error>> {
        let user =
            if nix::unistd::geteuid().is_root() { CloneFlags::empty() } else { CloneFlags::CLONE_NEWUSER };
        if let Err(errno) = unshare(user | CloneFlags::CLONE_NEWNET) {
            println!("tap: SKIPPED, no network namespace to be had: {errno}");
            return Ok(());
        }
        if let Err(e) = fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
            println!("tap: SKIPPED, /dev/net/tun: {e}");
            return Ok(());
        }
        let pump = Pump::new()?;
        let graph = Graph::new(TapPorts::new(pump.clone()));
        let handle = Handle::new(graph.transport());
        handle.node(NodeRef::Own).mkpeer("bridge", "b", "link999")?;
        let bridge = handle.node(NodeRef::Own).peer("b")?.id;
        handle.bridge(bridge).set_config(Config::FROZEN)?;
        let station = |n: u8| -> Result<NodeId, warren_netgraph::Error> {
            let link = format!("link{n}");
            handle.node(bridge).mkpeer("eiface", &link, "ether")?;
            let node = handle.node(bridge).peer(&link)?.id;
            let mac = Mac([2, 0x57, 0, 0, 0, n]);
            handle.eiface(node).set_mac(mac)?;
            handle.bridge(bridge).move_host(mac, &link)?;
            Ok(node)
        };
        let (first, second) = (station(0)?, station(1)?);
        assert_eq!(handle.eiface(first).ifname()?, "ngeth0");
        assert_eq!(handle.eiface(second).addresses()?.mac(), Some(Mac([2, 0x57, 0, 0, 0, 1])));
        assert_eq!(pump.len(), 2);

        // A name given by others is seen, as it would be in another namespace.
        rename("ngeth1", "eth0");
        assert_eq!(handle.eiface(second).ifname()?, "eth0");
        assert_eq!(handle.node(second).info()?.name, "ngeth1");

        // Up, each stack talks by itself (router solicitations, multicast listener reports): it must arrive at the other.
        up("ngeth0");
        up("eth0");
        until("frames of one stack arrive at the other", || {
            received("ngeth0").unwrap_or(0) > 0 && received("eth0").unwrap_or(0) > 0
        });
        let stats = handle.bridge(bridge).stats(LinkNumber::Link(0))?;
        assert!(stats.recv_packets > 0 && stats.xmit_packets > 0 && stats.loop_drops == 0, "{stats:?}");

        // The carrier follows the hook.
        handle.node(bridge).rmhook("link1")?;
        until("the carrier is off", || !running("eth0"));
        handle.node(bridge).connect(second, "link1", "ether")?;
        until("the carrier is on", || running("eth0"));
        handle.eiface(second).link_down()?;
        until("the carrier is off", || !running("eth0"));

        // A shutdown takes the interface away at once.
        handle.node(first).shutdown()?;
        assert_eq!(received("ngeth0"), None);
        assert_eq!(pump.len(), 1);
        let snapshot = graph.snapshot();
        assert!(matches!(&snapshot.named("ngeth1").unwrap().detail,
            Detail::Eiface { ifname: Some(name), .. } if name == "eth0"));
        // And the end of the graph takes the rest.
        drop(handle);
        drop(graph);
        assert_eq!(received("eth0"), None);
        assert!(pump.is_empty());
        println!("tap: ok");
        Ok(())
    }
}
