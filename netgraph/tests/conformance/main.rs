//! The same requests and frames to a real kernel and to the userland graph: what comes back is written down, line by line, and must
//! be the same.
//!
//! On FreeBSD (as root) the kernel is asked, and compared with what its release said once: `freebsd-13.2.txt` or `freebsd-15.1.txt`.
//! Everywhere the userland graph, straight and over descriptors, is compared with both. `RECORD=FILE` writes what the kernel says.

mod scenario;

use scenario::{Subject, run};
use std::time::Duration;
use warren_netgraph::Handle;
use warren_netgraph::data::FdData;
use warren_netgraph::transport::Transport;
use warren_netgraph::transport::fd::FdTransport;
use warren_netgraph::userland::server::Server;
use warren_netgraph::userland::{Graph, MemoryPorts, Options, Release};

/// What the kernel of each release said.
const SEEN: [(Release, &str); 2] =
    [(Release::V13_2, include_str!("freebsd-13.2.txt")), (Release::V15, include_str!("freebsd-15.1.txt"))];

fn graph(release: Release) -> Graph {
    Graph::with_options(MemoryPorts::default(), Options { release })
}

/// The graph of a laboratory whose clock is moved by hand.
fn clock(graph: Graph) -> Box<dyn Fn(u64)> {
    let now = std::cell::Cell::new(1);
    graph.tick(Duration::from_secs(1));
    Box::new(move |seconds| {
        now.set(now.get() + seconds);
        graph.tick(Duration::from_secs(now.get()));
    })
}

fn in_memory(release: Release) -> Vec<String> {
    let graph = graph(release);
    let transport = graph.transport();
    let data = graph.data_socket(transport.node(), 1 << 20).unwrap();
    let other = graph.clone();
    let plain = move || {
        let transport = other.plain_transport();
        transport.set_report_loss(true);
        Box::new(transport) as Box<dyn Transport>
    };
    run(Subject {
        handle: Handle::new(Box::new(transport)),
        data: Box::new(data),
        plain: Box::new(plain),
        settle: Duration::ZERO,
        pass: clock(graph),
    })
}

fn over_descriptors(release: Release) -> Vec<String> {
    let graph = graph(release);
    let server = std::sync::Arc::new(Server::new(graph.clone()).unwrap());
    let (control, data) = server.open_socket().unwrap();
    let plain = move || {
        let mut transport = FdTransport::new(server.open_socket().unwrap().0);
        transport.set_report_loss(true).unwrap();
        Box::new(transport) as Box<dyn Transport>
    };
    run(Subject {
        handle: Handle::new(Box::new(FdTransport::open(control).unwrap())),
        data: Box::new(FdData::new(data)),
        plain: Box::new(plain),
        settle: Duration::from_millis(10),
        pass: clock(graph),
    })
}

#[cfg(target_os = "freebsd")]
fn kernel() -> Option<Vec<String>> {
    use warren_netgraph::transport::freebsd;
    freebsd::load_types(&["socket", "hub", "bridge", "bpf", "eiface"]).unwrap();
    let (transport, data, _) = freebsd::open().unwrap();
    let plain = || Box::new(freebsd::open_plain().unwrap()) as Box<dyn Transport>;
    Some(run(Subject {
        handle: Handle::new(Box::new(transport)),
        data: Box::new(data),
        plain: Box::new(plain),
        // The guest is emulated, and the graph's threads are other threads.
        settle: Duration::from_millis(100),
        pass: Box::new(|seconds| std::thread::sleep(Duration::from_millis(1000 * seconds + 300))),
    }))
}

#[cfg(not(target_os = "freebsd"))]
fn kernel() -> Option<Vec<String>> {
    None
}

/// Says where two transcripts part.
fn same(what: &str, got: &[String], wanted: &[String]) -> bool {
    let mut same = true;
    for at in 0..got.len().max(wanted.len()) {
        let (got, wanted) = (got.get(at), wanted.get(at));
        if got != wanted {
            same = false;
            let none = String::from("(nothing)");
            println!("{what}: {}\n  instead of: {}", got.unwrap_or(&none), wanted.unwrap_or(&none));
        }
    }
    if same {
        println!("{what}: {} answers as the kernel's", got.len());
    }
    same
}

/// Which transcript this kernel's is to be like: a bridge of 14 and later numbers its links.
#[cfg(target_os = "freebsd")]
fn release() -> Release {
    let release = nix::sys::utsname::uname().unwrap().release().to_string_lossy().into_owned();
    if release.starts_with("13.") { Release::V13_2 } else { Release::V15 }
}

#[cfg(not(target_os = "freebsd"))]
fn release() -> Release {
    Release::default()
}

fn main() {
    let kernel = kernel();
    if let (Ok(file), Some(kernel)) = (std::env::var("RECORD"), &kernel) {
        std::fs::write(file, kernel.join("\n") + "\n").unwrap();
    }
    // Over descriptors nobody is told what became of data: that much of the protocol differs by design.
    let told = |lines: Vec<String>| {
        lines.into_iter().filter(|line| !line.contains(": data to ")).collect::<Vec<_>>()
    };
    let mut good = true;
    for (of, seen) in SEEN {
        let seen: Vec<String> = seen.lines().map(str::to_owned).collect();
        if let Some(kernel) = kernel.as_ref().filter(|_| of == release()) {
            good &= same("kernel", kernel, &seen);
        }
        good &= same(&format!("in memory as {of:?}"), &in_memory(of), &seen);
        good &= same(&format!("over descriptors as {of:?}"), &told(over_descriptors(of)), &told(seen));
    }
    std::process::exit(i32::from(!good));
}
