//! Instances that mean harm. Each test names the guard without which it fails.

use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::lab::{HEAD, Lab, answered, beacon, bomb, free_port, possible, text, wait};

/// The variable that turns a run of this program, inside an instance, into an attacker.
const ATTACK: &str = "WARREN_TEST_ATTACK";

/// A template of links: every place that Warren writes, reads or mounts over leads out of the root.
fn root_of_links(at: &Path, outside: &Path) {
    for dir in ["bin", "etc", "usr", "sbin", "lib", "var"] {
        std::fs::create_dir_all(at.join(dir)).unwrap();
    }
    std::fs::create_dir_all(outside.join("etc")).unwrap();
    for name in ["resolv.conf", "hosts"] {
        std::fs::write(outside.join("etc").join(name), "precious").unwrap();
        symlink(outside.join("etc").join(name), at.join("etc").join(name)).unwrap();
    }
    for name in ["dev", "proc", "data", "tmp"] {
        std::fs::create_dir_all(outside.join(name)).unwrap();
        symlink(outside.join(name), at.join(name)).unwrap();
    }
}

/// Everything below a directory, with what is in the files.
fn contents(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            all.push(path.display().to_string());
            all.extend(contents(&path));
        } else {
            all.push(format!("{}: {}", path.display(), std::fs::read_to_string(&path).unwrap_or_default()));
        }
    }
    all.sort();
    all
}

#[test]
fn a_root_of_links_leads_nowhere() {
    // Guards: openat2 without links in lab/below.rs, for files, directories and mount points alike.
    if !possible(&[]) {
        return;
    }
    let lab = Lab::new();
    let outside = lab.path().join("outside");
    for (n, links) in
        [&["etc/resolv.conf", "etc/hosts"][..], &["etc"], &["dev"], &["proc"], &["data"], &["tmp"]]
            .iter()
            .enumerate()
    {
        let root = lab.path().join(format!("root{n}"));
        root_of_links(&root, &outside);
        // All others are what they should be.
        for name in ["dev", "proc", "data", "tmp"] {
            if !links.contains(&name) {
                std::fs::remove_file(root.join(name)).unwrap();
                std::fs::create_dir(root.join(name)).unwrap();
            }
        }
        if links.contains(&"etc") {
            std::fs::remove_dir_all(root.join("etc")).unwrap();
            symlink(outside.join("etc"), root.join("etc")).unwrap();
        }
        let before = contents(&outside);
        // Between the mounts and the jail: what is mounted goes again with a start that fails.
        let seen = lab.path().join("seen");
        let look = format!("grep -e {} /proc/self/mountinfo >>{}; true", outside.display(), seen.display());
        let template = HEAD.replace("host = true", &format!("directory = \"{}\"", root.display()));
        let service = format!(
            "[services.one]\ntemplate = \"host\"\nnetworks = [\"net\"]\nrestart = \"no\"\ncommand = [\"@warren\", \"beacon\", \"--port\", \"80\", \"--name\", \"one\"]\n\
             mounts = [{{ fstype = \"tmpfs\", source = \"tmpfs\", target = \"/data\" }}, {{ fstype = \"tmpfs\", source = \"tmpfs\", target = \"/tmp/deep/er\" }}]\n\
             [services.one.jail]\n\"exec.prestart\" = \"{look}\"\n\"mount.devfs\" = true\n\"mount.procfs\" = true\n"
        );
        let file = lab.file("w.toml", &format!("{template}{service}"));
        let up = lab.warren(&["up", file.to_str().unwrap(), "--timeout", "100s"]);
        // A link at the very place of a file is replaced in the clone; one on the way, or under a mount, is refused. There is no libc
        // in this root, so nothing gets to run in any case.
        assert!(!up.status.success(), "{links:?}: {}", text(&up));
        let mounted = std::fs::read_to_string(&seen).unwrap_or_default();
        assert_eq!(mounted, "", "{links:?}: mounted outside");
        assert_eq!(seen.exists(), n < 2, "{links:?}: prestart runs where no mount is refused");
        // What was written through a link would be there by now.
        assert_eq!(contents(&outside), before, "{links:?}: something outside was changed");
        lab.ok(&["down", "t"]);
        assert_eq!(contents(&outside), before, "{links:?}: something outside was changed on the way down");
        lab.assert_nothing_left();
        let _ = std::fs::remove_file(&seen);
        std::fs::remove_dir_all(&root).unwrap();
    }
}

#[test]
fn what_an_instance_makes_of_its_own_root_stays_its_own() {
    // Guards: `host::remove::tree` and the unmounting by device and id; neither follows a link.
    if !possible(&[]) {
        return;
    }
    let lab = Lab::new();
    let precious = lab.path().join("precious");
    std::fs::create_dir(&precious).unwrap();
    std::fs::write(precious.join("file"), "kept").unwrap();
    let before = contents(&precious);
    let target = precious.display();
    // From inside: links in the place of everything, deep and endless directories, names of bytes, races until the end.
    let evil = format!(
        "cd /; for d in /mnt/a /srv/b; do mkdir -p $d; done; ln -s {target} /mnt/a/link; ln -s / /srv/b/root; \
         rm -f /etc/resolv.conf; ln -s {target}/file /etc/resolv.conf; rm -f /etc/hosts; ln -s {target}/file /etc/hosts; \
         d=/srv/deep; for n in $(seq 300); do d=$d/x; done; mkdir -p $d; \
         printf x > \"$(printf '/srv/b/\\\\n\\\\033[2J')\"; mkfifo /srv/b/pipe; \
         while :; do mkdir /srv/race; rmdir /srv/race; ln -s {target} /srv/race; rm /srv/race; done"
    );
    let service = format!(
        "[services.one]\ntemplate = \"host\"\nnetworks = [\"net\"]\nrestart = \"no\"\ncommand = [\"/bin/sh\", \"-c\", '''{evil}''']\n"
    );
    let file = lab.file("w.toml", &format!("{HEAD}{service}"));
    lab.ok(&["up", file.to_str().unwrap()]);
    std::thread::sleep(Duration::from_millis(500));
    lab.ok(&["down", "t"]);
    assert_eq!(contents(&precious), before);
    lab.assert_nothing_left();
}

#[test]
fn log_output_without_end_is_bounded_and_stops_nobody() {
    // Guards: the size of a log's files and the turns of its reader in keeper/logs.rs and keeper/process.rs.
    if !possible(&[]) {
        return;
    }
    let lab = Lab::new();
    let shouter = "[services.loud]\ntemplate = \"host\"\nnetworks = [\"net\"]\ncommand = [\"/bin/sh\", \"-c\", \
                   \"yes a line that goes on and on & head -c 200000000 /dev/zero & exec yes\"]\n";
    let file = lab.file("w.toml", &format!("{HEAD}{shouter}{}", beacon("quiet", "")));
    lab.ok(&["up", file.to_str().unwrap()]);
    for _ in 0..5 {
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(lab.ok(&["exec", "quiet", "--", "echo", "heard"]).trim(), "heard");
    }
    let size: u64 = walk(&lab.state().join("log"));
    assert!((1 << 20..16 << 20).contains(&size), "{size} bytes of logs");
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}

/// The bytes of all files below a directory.
fn walk(dir: &Path) -> u64 {
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => walk(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    std::fs::read_dir(dir).into_iter().flatten().flatten().map(size).sum()
}

#[test]
fn a_fork_bomb_does_not_outlive_its_stop() {
    // Guard: the kill of a jail goes on until the kernel's list of its processes is empty (lab: its pid namespace).
    if !possible(&[]) {
        return;
    }
    let lab = Lab::new();
    let file = lab.file("w.toml", &format!("{HEAD}{}", bomb()));
    lab.ok(&["up", file.to_str().unwrap()]);
    let name = lab.first("bomb");
    std::thread::sleep(Duration::from_millis(500));
    lab.ok(&["down", "t", "--timeout", "60s"]);
    let left = text(&lab.host(&["ps", "ax"]));
    assert!(!left.contains("trap"), "processes of {name} are left:\n{left}");
    lab.assert_nothing_left();
}

/// Puts this program where instances of the host's root see it; before they are made.
fn arm(lab: &Lab) {
    std::fs::copy(std::env::current_exe().unwrap(), lab.path().join("attacker")).unwrap();
}

/// What runs this program inside an instance.
fn attacking(lab: &Lab, instance: &str, how: &str) -> Vec<String> {
    let (how, me) = (format!("{ATTACK}={how}"), lab.path().join("attacker").display().to_string());
    let words = ["exec", instance, "--", "env", &how, &me];
    let test = ["hostile::attacker", "--exact", "--ignored", "--nocapture"];
    words.into_iter().chain(test).map(str::to_owned).collect()
}

/// This program inside an instance, to its end.
fn attack(lab: &Lab, instance: &str, how: &str) -> String {
    let words = attacking(lab, instance, how);
    lab.ok(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn mac(text: &str) -> [u8; 6] {
    let bytes: Vec<u8> = text.split(':').map(|b| u8::from_str_radix(b, 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

fn mac_of(lab: &Lab, instance: &str) -> String {
    lab.json(&["inspect", instance])["links"][0]["mac"].as_str().unwrap().to_owned()
}

#[test]
#[ignore = "the other tests run it inside an instance"]
fn attacker() {
    let Ok(how) = std::env::var(ATTACK) else { return };
    let mut words = how.split(' ');
    match words.next() {
        Some("dns") => {
            let server = words.next().unwrap();
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect(server).unwrap();
            let query = b"\x47\x11\x01\0\0\x01\0\0\0\0\0\0\x03one\x01t\x08internal\0\0\x01\0\x01";
            let end = Instant::now() + Duration::from_secs(5);
            let mut sent = 0_u64;
            while Instant::now() < end {
                sent += u64::from(socket.send(query).is_ok());
            }
            println!("sent {sent}");
        }
        Some("frames") => {
            let mac = mac(words.next().unwrap());
            let (own, victim) = (words.next().unwrap(), words.next().unwrap());
            let sent =
                raw::send_all("net0", &raw::forged(&mac, own.parse().unwrap(), victim.parse().unwrap()));
            println!("sent {sent}");
        }
        Some("discovers") => {
            println!("sent {}", raw::send_all("net0", &raw::discovers(mac(words.next().unwrap()), 20_000)))
        }
        Some("listen") => {
            let seconds = words.next().unwrap().parse().unwrap();
            for seen in raw::marked("net0", Duration::from_secs(seconds)) {
                println!("saw {seen}");
            }
        }
        other => panic!("no attack is called {other:?}"),
    }
}

mod raw {
    //! Frames as they are, from and to an interface: AF_PACKET.
    #![allow(unsafe_code)]

    use std::net::Ipv4Addr;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::time::{Duration, Instant};

    /// In every forged frame, with a number behind it.
    const MARK: &[u8] = b"WARREN-FORGED-";
    /// What stands behind it in the frame that is not.
    const HONEST: &str = "honest";

    fn open(interface: &str) -> OwnedFd {
        let all = (libc::ETH_P_ALL as u16).to_be();
        // SAFETY: a plain system call; the descriptor it returns is nobody else's.
        let fd =
            unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, i32::from(all)) };
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: it was just opened.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let name = std::ffi::CString::new(interface).unwrap();
        // SAFETY: zeros are a value of it.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = all;
        // SAFETY: the name ends with a NUL.
        address.sll_ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) } as i32;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the address lives for the call and is as long as is said.
        let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) };
        assert_eq!(bound, 0, "{}", std::io::Error::last_os_error());
        fd
    }

    /// How many of them the interface took.
    pub fn send_all(interface: &str, frames: &[Vec<u8>]) -> usize {
        let socket = open(interface);
        let taken = |frame: &&Vec<u8>| {
            nix::sys::socket::send(socket.as_raw_fd(), frame, nix::sys::socket::MsgFlags::empty()).is_ok()
        };
        frames.iter().filter(taken).count()
    }

    /// The marked frames that come in, by the text of their mark: until a second after the honest one, which is sent last.
    pub fn marked(interface: &str, time: Duration) -> Vec<String> {
        let socket = open(interface);
        println!("listening");
        let mut end = Instant::now() + time;
        let mut seen = Vec::new();
        let mut buffer = [0; 2048];
        while Instant::now() < end {
            let got = nix::sys::socket::recv(
                socket.as_raw_fd(),
                &mut buffer,
                nix::sys::socket::MsgFlags::MSG_DONTWAIT,
            );
            match got {
                Ok(length) => {
                    let frame = &buffer[..length];
                    if let Some(at) = frame.windows(MARK.len()).position(|w| w == MARK) {
                        let text = &frame[at + MARK.len()..(at + MARK.len() + 8).min(length)];
                        let text = String::from_utf8_lossy(text).trim_end_matches('\0').to_owned();
                        if text == HONEST {
                            end = Instant::now() + Duration::from_secs(1);
                        }
                        seen.push(text);
                    }
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
        seen
    }

    fn ether(source: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
        [&[0xff; 6][..], &source, &kind.to_be_bytes(), payload].concat()
    }

    fn mark(what: &str) -> Vec<u8> {
        let mut text = [MARK, what.as_bytes()].concat();
        text.resize(MARK.len() + 8, 0);
        text
    }

    fn ipv4(source: Ipv4Addr, to: Ipv4Addr, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        let length = (28 + payload.len()) as u16;
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0];
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet.extend(source.octets());
        packet.extend(to.octets());
        let sum = packet.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum::<u32>();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        for word in [ports.0, ports.1, (8 + payload.len()) as u16, 0] {
            packet.extend(word.to_be_bytes());
        }
        packet.extend_from_slice(payload);
        packet
    }

    /// One of each kind that must not pass, and an honest one behind them.
    pub fn forged(own_mac: &[u8; 6], own: Ipv4Addr, victim: Ipv4Addr) -> Vec<Vec<u8>> {
        let mac = *own_mac;
        let other = [0x02, 0x66, 0x66, 0x66, 0x66, 0x66];
        let all = Ipv4Addr::BROADCAST;
        let arp = |sender_mac: [u8; 6], sender: Ipv4Addr, what: &str| {
            let head =
                [&[0, 1, 8, 0, 6, 4, 0, 2][..], &sender_mac, &sender.octets(), &[0; 6], &victim.octets()]
                    .concat();
            [head, mark(what)].concat()
        };
        let local =
            [&[0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2][..], &mac[1..3], &[0xff, 0xfe], &mac[3..]].concat();
        // Nobody's; but somebody's neighbours would believe it.
        let anothers = [&[0xfd, 0x99][..], &[0; 12], &[0xba, 0xad]].concat();
        let ipv6 = |next: u8, source: &[u8], payload: &[u8], what: &str| {
            let payload = [payload, &mark(what)].concat();
            let head = [0x60, 0, 0, 0, 0, payload.len() as u8, next, 255];
            let everybody = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
            ether(mac, 0x86dd, &[&head[..], source, &everybody, &payload].concat())
        };
        let udp = |from: u16| [&from.to_be_bytes()[..], &[2, 34, 0, 30, 0, 0]].concat();
        let advertisement = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        let neighbour = [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &anothers].concat();
        vec![
            ether(other, 0x0800, &ipv4(own, all, (4000, 4000), &mark("mac"))),
            ether(mac, 0x0800, &ipv4(victim, all, (4000, 4000), &mark("ip"))),
            ether(mac, 0x0806, &arp(mac, victim, "arp-ip")),
            ether(mac, 0x0806, &arp(other, own, "arp-mac")),
            ether(mac, 0x0800, &ipv4(own, all, (67, 68), &mark("offer"))),
            ipv6(58, &local, &advertisement, "ra"),
            ipv6(17, &anothers, &udp(4000), "ip6"),
            ipv6(58, &local, &neighbour, "na"),
            ipv6(17, &local, &udp(547), "dhcp6"),
            // A header in front of the one that would be looked at.
            ipv6(0, &local, &[&[58, 0, 5, 2, 0, 0, 1, 0][..], &advertisement].concat(), "hop"),
            ether(
                mac,
                0x8100,
                &[&[0, 5, 8, 0][..], &ipv4(victim, all, (4000, 4000), &mark("vlan"))].concat(),
            ),
            ether(mac, 0x88cc, &mark("lldp")),
            ether(mac, 0x0800, &ipv4(own, all, (4000, 4000), &mark(HONEST))),
        ]
    }

    /// DISCOVERs of ever new clients, of which the link's guard lets pass those of its own station: here all of them claim to be.
    pub fn discovers(mac: [u8; 6], count: u32) -> Vec<Vec<u8>> {
        let of = |n: u32| {
            let mut message = vec![1, 1, 6, 0];
            message.extend(n.to_be_bytes());
            message.extend([0; 20]);
            message.extend(mac);
            message.resize(236, 0);
            message.extend([99, 130, 83, 99, 53, 1, 1, 61, 7, 1]);
            message.extend([2, 0x66]);
            message.extend(n.to_be_bytes());
            message.extend([12, 3, b'o', b'n', b'e', 255]);
            ether(mac, 0x0800, &ipv4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, (68, 67), &message))
        };
        (0..count).map(of).collect()
    }
}

#[test]
fn forged_frames_are_seen_by_nobody() {
    // Guard: the program at the link's door (`netgraph::guard`). With `guard::open()` in its place all are seen.
    if !possible(&[]) {
        return;
    }
    let lab = Lab::new();
    arm(&lab);
    let file = lab.file("w.toml", &format!("{HEAD}{}", beacon("one", "replicas = 2")));
    lab.ok(&["up", file.to_str().unwrap()]);
    let all = lab.instances();
    let of = |n: usize, key: &str| all[n][key].as_str().unwrap().to_owned();
    let (attacker, victim) = (of(0, "name"), of(1, "name"));
    let (own, other) = (lab.address(&attacker), lab.address(&victim));
    let mac = mac_of(&lab, &attacker);
    let words = attacking(&lab, &victim, "listen 60");
    let mut listener = lab.command(&words.iter().map(String::as_str).collect::<Vec<_>>());
    let mut listener = listener.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(listener.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("listening")), "nobody listens{}", lab.daemon_log());
    let sent = attack(&lab, &attacker, &format!("frames {mac} {own} {other}"));
    assert!(sent.contains("sent 13"), "{sent}");
    let seen: Vec<String> =
        lines.filter_map(|line| line.trim().strip_prefix("saw ").map(str::to_owned)).collect();
    assert!(listener.wait().unwrap().success());
    assert_eq!(seen, ["honest"], "forged frames came through");
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}

#[test]
fn floods_of_dhcp_and_dns_leave_the_others_served_and_take_no_name() {
    // Guards: the DHCP server's rate by MAC (dhcp/src/server/limit.rs), the name server's by client (dns/src/server/rate.rs), and
    // that names come from the store and never from a client.
    if !possible(&["udhcpc", "dig"]) {
        return;
    }
    let dns = free_port();
    let lab = Lab::new().variable("WARREN_DNS", format!("127.0.0.1:{dns}"));
    arm(&lab);
    let victim = "[services.late]\ntemplate = \"host\"\nnetworks = [\"net\"]\naddress = \"dhcp\"\nrestart = \"no\"\n\
                  command = [\"/sbin/udhcpc\", \"-f\", \"-i\", \"net0\", \"-x\", \"hostname:one\", \"-F\", \"one\"]\n";
    let head = format!("{HEAD}{}", beacon("one", "replicas = 1")) + &beacon("evil", "");
    let file = lab.file("w.toml", &head);
    lab.ok(&["up", file.to_str().unwrap()]);
    let (evil, one) = (lab.first("evil"), lab.address(&lab.first("one")));
    let before = lab.ok(&["dns", "ls", "--json"]);
    std::thread::scope(|scope| {
        let floods: Vec<_> = [format!("discovers {}", mac_of(&lab, &evil)), "dns 10.99.0.1:53".to_owned()]
            .map(|how| {
                let (lab, evil) = (&lab, &evil);
                scope.spawn(move || attack(lab, evil, &how))
            })
            .into();
        // Under the flood: a name each way, and a client that gets its lease.
        let file = lab.file("w.toml", &format!("{head}{victim}"));
        lab.ok(&["up", file.to_str().unwrap(), "--timeout", "60s"]);
        let inside = lab.ok(&[
            "exec",
            "one",
            "--",
            "dig",
            "+short",
            "+time=1",
            "+tries=30",
            "@10.99.0.1",
            "one.t.internal",
        ]);
        assert_eq!(answered(&inside).trim(), one);
        for flood in floods {
            let sent = flood.join().unwrap();
            let count: u64 =
                sent.split("sent ").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
            assert!(count > 5000, "{sent}");
        }
    });
    // The client called itself `one`, by host name and by FQDN; so did the flood. `one` is still the one.
    let all = lab.ok(&["dns", "ls", "--json"]);
    let named = |text: &str, name: &str| text.matches(name).count();
    assert_eq!(named(&all, "\"one.t.internal."), named(&before, "\"one.t.internal."), "{all}");
    let dig = ["dig", "+short", "+time=20", "+tries=1", "@10.99.0.1", "one.t.internal"];
    assert_eq!(answered(&text(&lab.host(&dig))).trim(), one);
    wait("the late one's lease", || lab.ok(&["lease", "ls", "--json"]).contains("bound"));
    let leases = lab.json(&["lease", "ls"]);
    let bound = leases.as_array().unwrap().iter().filter(|l| l["state"] == "bound").count();
    assert!(bound <= 3, "the flood took addresses: {leases}");
    lab.ok(&["down", "t"]);
    lab.assert_nothing_left();
}
