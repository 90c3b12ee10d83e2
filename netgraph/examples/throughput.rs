//! Frames per second through the userland netgraph with ports in memory. The numbers are for reading, not for asserting.
//!
//! `cargo run --release -p warren-netgraph --features userland --example throughput`

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Instant;
use warren_netgraph::guard::{self, Guard};
use warren_netgraph::transport::memory::MemoryTransport;
use warren_netgraph::userland::{Graph, MemoryPort, MemoryPorts, Port};
use warren_netgraph::{Handle, Mac, NodeRef};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Stations on one bridge, each behind a filter if `filtered`.
fn build(stations: u16, filtered: bool) -> Outcome<(Graph, Handle<MemoryTransport>, Vec<Arc<MemoryPort>>)> {
    let memory = MemoryPorts::keeping(0);
    let graph = Graph::new(memory.clone());
    let handle = Handle::new(graph.transport());
    handle.node(NodeRef::Own).mkpeer("bridge", "b", "link999")?;
    let bridge = handle.node(NodeRef::Own).peer("b")?.id;
    handle.node(NodeRef::Own).mkpeer("hub", "h", "x")?;
    let hub = handle.node(NodeRef::Own).peer("h")?.id;
    let mut ports = Vec::new();
    for n in 0..stations {
        handle.node(hub).mkpeer("eiface", "new", "ether")?;
        let eiface = handle.node(hub).peer("new")?.id;
        handle.node(hub).rmhook("new")?;
        let port = memory.get(n).ok_or("no port")?;
        let link = format!("link{n}");
        if filtered {
            handle.node(eiface).mkpeer("bpf", "ether", "jail")?;
            let bpf = handle.node(eiface).peer("ether")?.id;
            let program =
                Guard { mac: port.mac()?, v4: vec![address(n)], v6: vec![], allow_dhcp: true }.program()?;
            handle.bpf(bpf).set_program("jail", "net", "", &program)?;
            handle.bpf(bpf).set_program("net", "jail", "", &guard::open())?;
            handle.node(bpf).connect(bridge, "net", &link)?;
        } else {
            handle.node(eiface).connect(bridge, "ether", &link)?;
        }
        handle.bridge(bridge).move_host(port.mac()?, &link)?;
        ports.push(port);
    }
    Ok((graph, handle, ports))
}

fn address(n: u16) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0001 + u32::from(n))
}

fn frame(to: Mac, from: Mac, source: Ipv4Addr, len: usize) -> Vec<u8> {
    let mut frame =
        [&to.0[..], &from.0, &[8, 0, 0x45], &[0; 8], &[6, 0, 0], &source.octets(), &[10, 0, 0, 2]].concat();
    frame.resize(len, 0);
    frame
}

fn measure(what: &str, count: u64, mut run: impl FnMut() -> Outcome<()>) -> Outcome<()> {
    let start = Instant::now();
    run()?;
    let taken = start.elapsed();
    println!("{what:<64} {:>10.0} frames/s", count as f64 / taken.as_secs_f64());
    Ok(())
}

fn main() -> Outcome<()> {
    const COUNT: u64 = 2_000_000;
    for filtered in [false, true] {
        for batch in [1usize, 32] {
            let (_graph, _handle, ports) = build(250, filtered)?;
            let data = frame(ports[1].mac()?, ports[0].mac()?, address(0), 1514);
            let input = ports[0].input().ok_or("not attached")?.clone();
            let frames = vec![data.as_slice(); batch];
            let what = format!(
                "unicast, 1514 bytes, 250 links, {}batches of {batch}",
                if filtered { "two filters, " } else { "" }
            );
            measure(&what, COUNT, || {
                (0..COUNT / batch as u64).for_each(|_| input.frames(&frames));
                Ok(())
            })?;
            let arrived = ports[1].count();
            if arrived != COUNT {
                return Err(format!("{arrived} of {COUNT} arrived").into());
            }
        }
    }

    let (_graph, _handle, ports) = build(250, true)?;
    let data = frame(Mac::BROADCAST, ports[0].mac()?, address(0), 60);
    let count = COUNT / 100;
    measure("broadcast in, 250 links (times 249 out)", count, || {
        (0..count).for_each(|_| ports[0].send(&data));
        Ok(())
    })?;

    let (_graph, _handle, ports) = build(250, true)?;
    let ports = &ports;
    measure("unicast, two filters, 2 threads, batches of 32", 2 * COUNT, || {
        std::thread::scope(|scope| {
            for n in 0..2u16 {
                scope.spawn(move || {
                    let (from, to) = (&ports[usize::from(n)], &ports[usize::from(n) + 2]);
                    if let (Ok(to), Ok(mac), Some(input)) = (to.mac(), from.mac(), from.input()) {
                        let data = frame(to, mac, address(n), 1514);
                        let frames = [data.as_slice(); 32];
                        (0..COUNT / 32).for_each(|_| input.frames(&frames));
                    }
                });
            }
        });
        Ok(())
    })?;

    let start = Instant::now();
    let count = 10_000u16;
    let (_graph, _handle, ports) = build(count, true)?;
    let taken = start.elapsed();
    println!("{} stations with filters made in {taken:.2?} ({:.1?} each)", ports.len(), taken / count.into());
    Ok(())
}
