//! `warren demo`: brings an example up, uses it, breaks it, takes it down, and proves that nothing is left.
//!
//! - [`scenario`] is what is done, in order. [`report`] keeps what came of each check.
//! - [`traffic`] fetches pages all the while. [`trace`] remembers what there was, and looks whether any of it is left.

mod report;
mod scenario;
mod trace;
mod traffic;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;

use super::daemon::{DnsRelay, HostKind, Starting};
use super::out::{self, Output};
use super::{Fail, fabrics};
use crate::config::spec::FabricSpec;
use crate::ids::Id;
use report::Report;
use scenario::Scenario;

/// The example, as it is in the repository.
const SHOP: &str = include_str!("../../../examples/shop.toml");

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A warren.toml of services of `@warren beacon` [default: the shop of examples/shop.toml]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// What it runs on [default: freebsd on FreeBSD, lab on Linux]
    #[arg(long, env = "WARREN_HOST", value_enum)]
    host: Option<HostKind>,
    /// Leave the state directory with its logs and its store
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    pub output: Output,
}

pub fn run(args: Args) -> Result<u8, Fail> {
    let kind = args.host.unwrap_or_else(HostKind::usual);
    if kind == HostKind::Freebsd {
        // It looks at a published port and at DNS from the machine's own loopback, which only the lab's relays make possible.
        return Err(Fail::usage("the demo runs in the lab (Linux) or in the sim").hint(
            "`warren demo --host sim`; on FreeBSD `warren up examples/shop.toml` brings the same up for real",
        ));
    }
    let mut spec = match &args.file {
        Some(file) => fabrics::load(file)?,
        None => {
            crate::config::parse("examples/shop.toml", SHOP).map_err(|report| fabrics::refused(&report))?
        }
    };
    let mut report = Report::new(args.output.json);
    let real = kind != HostKind::Sim;
    if real {
        free_ports(&mut spec, &report)?;
    }
    let dns = free_dns()?;
    let starting = Starting {
        host: Some(kind),
        jobs: None,
        dns: (kind == HostKind::Lab).then_some(DnsRelay::At(dns)),
        verbose: 0,
    };
    let random = getrandom::u64().map_err(|e| Fail::new(format!("drawing a name: {e}")))?;
    let dir =
        super::state::make(&std::env::temp_dir().join(format!("warren-demo-{}", Id::from_random(random))))?;
    report.say(&format!("{} on the host `{}`, in {}", spec.name, kind.as_str(), dir.display()));
    if !real {
        report.say("the sim has no packets and no processes: what needs them is checked in its books instead, and marked");
    }
    let mut scenario = Scenario::new(kind, dir.clone(), spec, starting, dns)?;
    let ran = super::block_on(async {
        let ran = scenario.run(&mut report).await;
        // However it went, nothing is to be left.
        scenario.clear(&mut report).await;
        ran
    });
    if args.keep {
        report.say(&format!("kept: {}", dir.display()));
    } else {
        let removed = std::fs::remove_dir_all(&dir);
        let removed = removed.map(|()| "removed".to_owned());
        report.add(
            "the state directory",
            std::time::Instant::now(),
            removed.map_err(|e| Fail::new(format!("{}: {e}", dir.display()))),
        );
    }
    if let Err(fail) = ran {
        // It is in the report; only an interruption is more than that.
        if fail.code == super::fail::INTERRUPTED {
            return Err(fail);
        }
    }
    report.end(kind.as_str());
    Ok(if report.ok() { 0 } else { super::fail::FAILED })
}

/// Published ports that are taken on this machine are exchanged for free ones.
fn free_ports(spec: &mut FabricSpec, report: &Report) -> Result<(), Fail> {
    for publish in spec.services.values_mut().flat_map(|service| &mut service.publish) {
        if TcpListener::bind(("127.0.0.1", publish.port)).is_ok() {
            continue;
        }
        let free = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
        let free = free.map_err(|e| Fail::new(format!("looking for a free port: {e}")))?;
        report.say(&out::warning(&format!(
            "port {} of this machine is taken: {} is used",
            publish.port,
            free.port()
        )));
        publish.port = free.port();
    }
    Ok(())
}

/// An address of the loopback for DNS, free for UDP and TCP.
fn free_dns() -> Result<SocketAddr, Fail> {
    for _ in 0..50 {
        let tcp = TcpListener::bind(("127.0.0.1", 0))
            .and_then(|tcp| tcp.local_addr().map(|address| (tcp, address)));
        let (_tcp, address) = tcp.map_err(|e| Fail::new(format!("looking for a free port: {e}")))?;
        if UdpSocket::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(Fail::new("no port of the loopback is free for both UDP and TCP"))
}
