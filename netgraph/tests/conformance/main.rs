//! The same requests and frames to a real kernel and to the userland graph: what comes back is written down, line by line, and must
//! be the same.
//!
//! On FreeBSD (as root) the kernel is asked, and compared with the userland graph and with `freebsd-13.2.txt`, what a 13.2 kernel
//! said. Elsewhere the userland graph, straight and over descriptors, is compared with that file. `RECORD=FILE` writes what
//! the kernel (or, without one, the userland graph) says.

mod scenario;

use scenario::{Subject, run};
use std::time::Duration;
use warren_netgraph::Handle;
use warren_netgraph::data::FdData;
use warren_netgraph::transport::Transport;
use warren_netgraph::transport::fd::FdTransport;
use warren_netgraph::userland::server::Server;
use warren_netgraph::userland::{Graph, MemoryPorts, Options, Release};

const SEEN: &str = include_str!("freebsd-13.2.txt");

fn graph() -> Graph {
    Graph::with_options(MemoryPorts::default(), Options { release: Release::V13_2 })
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

fn in_memory() -> Vec<String> {
    let graph = graph();
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

fn over_descriptors() -> Vec<String> {
    let graph = graph();
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

fn main() {
    let seen: Vec<String> = SEEN.lines().map(str::to_owned).collect();
    let kernel = kernel();
    let memory = in_memory();
    if let Ok(file) = std::env::var("RECORD") {
        std::fs::write(file, kernel.as_ref().unwrap_or(&memory).join("\n") + "\n").unwrap();
    }
    let mut good = kernel.is_none_or(|kernel| same("kernel", &kernel, &seen));
    good &= same("in memory", &memory, &seen);
    // Over descriptors nobody is told what became of data: that much of the protocol differs by design.
    let told = |lines: Vec<String>| {
        lines.into_iter().filter(|line| !line.contains(": data to ")).collect::<Vec<_>>()
    };
    good &= same("over descriptors", &told(over_descriptors()), &told(seen));
    std::process::exit(i32::from(!good));
}
