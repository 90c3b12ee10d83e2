//! Our server beside dnsmasq and unbound, under dnsperf, in one run:
//! `cargo run --release -p warren-dns --example compare [seconds]` (Debian: apt-get install dnsperf dnsmasq-base unbound).
//!
//! Each server gets the same 10,000 names and CPU 0, dnsperf CPU 1. The ratios are what counts, that of CPU time most: the figures are the
//! machine's and its other work's. Linux only, for taskset and /proc.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use warren_dns::server::{Limits, Policy, Rate, Server};
use warren_dns::{Change, Host, Instance, Snapshot, ZoneConfig};

const NAMES: u32 = 10_000;
type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some("serve") => serve(arguments.next().unwrap_or_default().parse()?),
        seconds => compare(seconds.unwrap_or("10")),
    }
}

fn address(n: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0100 + n)
}

/// Our server on a port of the loopback, in one thread, until killed.
fn serve(port: u16) -> Result<(), Error> {
    let config = ZoneConfig {
        origin: "shop.internal".into(),
        ttl: 5,
        negative_ttl: 30,
        serial: 1,
        ns: Host { label: "ns".into(), addresses: vec![Ipv4Addr::new(10, 0, 0, 1).into()] },
        hosts: Vec::new(),
        reverse: vec!["10.0.0.0/8".parse()?],
    };
    let changes: Vec<Change> = (0..NAMES)
        .map(|n| {
            Change::AddInstance(Instance {
                id: format!("i{n:07}"),
                service: "web".into(),
                v4: vec![address(n)],
                v6: Vec::new(),
                ready: true,
                ports: Vec::new(),
                txt: Vec::new(),
            })
        })
        .collect();
    let snapshot = Snapshot::new().add_zone(config)?.apply("shop.internal", &changes)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        // What is measured is the server, not its patience with one client.
        let limits = Limits { rate: Rate { burst: 1, per_second: 0 }, ..Limits::default() };
        let server = Server::new(Arc::new(ArcSwap::from_pointee(snapshot)), Policy::default(), limits);
        server.add_udp(UdpSocket::bind(("127.0.0.1", port))?)?;
        server.add_tcp(TcpListener::bind(("127.0.0.1", port))?)?;
        std::future::pending().await
    })
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Nothing can be done about a server that will not die, and the example ends anyway.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> Result<u16, Error> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn start(program: &str, arguments: &[&str]) -> Result<Killed, Error> {
    let child = Command::new("taskset")
        .args(["-c", "0", program])
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Killed(child))
}

/// Waits until the server answers for the last name.
fn wait_for(port: u16) -> Result<(), Error> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    socket.connect(("127.0.0.1", port))?;
    let mut query = b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    for label in [format!("i{:07}", NAMES - 1).as_str(), "web", "shop", "internal"] {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(b"\x00\x00\x01\x00\x01");
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(30) {
        let mut reply = [0; 512];
        // Refused as long as nobody listens.
        let heard = socket.send(&query).and_then(|_| socket.recv(&mut reply));
        if heard.is_ok() && reply[3] & 0xf == 0 && reply[7] == 1 {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Err("the server does not answer".into())
}

fn dnsperf(port: u16, queries: &Path, seconds: &str) -> Result<(f64, f64), Error> {
    let out = Command::new("taskset")
        .args([
            "-c",
            "1",
            "dnsperf",
            "-s",
            "127.0.0.1",
            "-p",
            &port.to_string(),
            "-l",
            seconds,
            "-q",
            "200",
            "-d",
        ])
        .arg(queries)
        .output()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let line = |start: &str| text.lines().map(str::trim).find(|l| l.starts_with(start)).map(str::to_owned);
    if !line("Response codes:").is_some_and(|l| l.contains("(100.00%)") && l.contains("NOERROR")) {
        return Err(
            format!("not every answer was NOERROR: {text}{}", String::from_utf8_lossy(&out.stderr)).into()
        );
    }
    let number = |start: &str, word: usize| -> Result<f64, Error> {
        let line = line(start).ok_or_else(|| format!("no {start} in: {text}"))?;
        Ok(line.split_whitespace().nth(word).unwrap_or_default().parse()?)
    };
    Ok((number("Queries per second:", 3)?, number("Queries completed:", 2)?))
}

/// CPU time of a process so far, user and system: what other load on the machine distorts least (proc(5)).
fn cpu_seconds(pid: u32) -> Result<f64, Error> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: Vec<f64> =
        after_name.split_whitespace().skip(11).take(2).filter_map(|w| w.parse().ok()).collect();
    // USER_HZ is 100 on every Linux.
    Ok(ticks.iter().sum::<f64>() / 100.0)
}

fn compare(seconds: &str) -> Result<(), Error> {
    let dir = std::env::temp_dir().join(format!("warren-dns-compare-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let (queries, hosts, unbound) = (dir.join("queries"), dir.join("hosts"), dir.join("unbound.conf"));
    let (mut asked, mut host_lines, mut local) = (String::new(), String::new(), String::new());
    for n in 0..NAMES {
        let name = format!("i{n:07}.web.shop.internal");
        writeln!(asked, "i{:07}.web.shop.internal A", n.wrapping_mul(7919) % NAMES)?;
        writeln!(host_lines, "{} {name}", address(n))?;
        writeln!(local, "local-data: \"{name}. 5 IN A {}\"", address(n))?;
    }
    let ports = [free_port()?, free_port()?, free_port()?];
    std::fs::write(&queries, asked)?;
    std::fs::write(&hosts, host_lines)?;
    std::fs::write(
        &unbound,
        format!(
            "server:\ndirectory: \"{0}\"\nchroot: \"\"\nusername: \"\"\npidfile: \"\"\nuse-syslog: no\ndo-daemonize: no\n\
             num-threads: 1\ninterface: 127.0.0.1@{1}\naccess-control: 127.0.0.0/8 allow\nmodule-config: \"iterator\"\n\
             local-zone: \"shop.internal.\" static\n{local}remote-control:\ncontrol-enable: no\n",
            dir.display(),
            ports[2]
        ),
    )?;
    let own = std::env::current_exe()?;
    let text = |path: &Path| path.display().to_string();
    let port = |n: usize| ports[n].to_string();
    let servers: [(&str, String, Vec<String>); 3] = [
        ("warren-dns", text(&own), vec!["serve".into(), port(0)]),
        (
            "dnsmasq",
            "dnsmasq".into(),
            vec![
                "-k".into(),
                "-C/dev/null".into(),
                format!("-p{}", port(1)),
                "-a127.0.0.1".into(),
                "-z".into(),
                "-h".into(),
                "-R".into(),
                "-u".into(),
                "root".into(),
                format!("-H{}", text(&hosts)),
            ],
        ),
        ("unbound", "unbound".into(), vec!["-d".into(), "-c".into(), text(&unbound)]),
    ];
    let mut first = None;
    for (index, (name, program, arguments)) in servers.iter().enumerate() {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let measured = start(program, &arguments).and_then(|running| {
            wait_for(ports[index])?;
            let before = cpu_seconds(running.0.id())?;
            let (rate, total) = dnsperf(ports[index], &queries, seconds)?;
            let cpu = cpu_seconds(running.0.id())? - before;
            Ok((rate, 1e6 * cpu / total))
        });
        match measured {
            Ok((rate, cpu)) => {
                let (own_rate, own_cpu) = *first.get_or_insert((rate, cpu));
                let (by_rate, by_cpu) = (own_rate / rate, cpu / own_cpu);
                println!(
                    "{name:12} {rate:>8.0} queries/s {cpu:>6.2} us of CPU each; warren-dns is {by_rate:.2} and {by_cpu:.2} times as fast"
                );
            }
            Err(error) => println!("{name:12} not measured: {error}"),
        }
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
