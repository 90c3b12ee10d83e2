//! Any messages and frames into a graph, from bytes: what the fuzz target and its replay drive.
//!
//! The bytes are read as a list of things done to a small graph: a control message to an address, or a frame into a hook.
//! Whatever they are, the graph stays a graph.

use super::socket::Event;
use super::{Detail, Graph, MemoryPorts, Options, Release, Side};
use crate::addr::{NodeId, SockaddrNg};
use crate::name::HookName;
use std::time::Duration;

/// Bytes taken one after the other; at the end there are zeros.
struct Tape<'a>(&'a [u8]);

impl<'a> Tape<'a> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn piece(&mut self, length: usize) -> &'a [u8] {
        let (piece, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        piece
    }
}

/// Entry point for fuzzing.
///
/// # Panics
/// When the graph is none any more: two nodes of one name, an edge with one end, an interface without its node.
pub fn fuzz(data: &[u8]) {
    let mut tape = Tape(data);
    let ports = MemoryPorts::keeping(0);
    let release = if tape.byte().is_multiple_of(2) { Release::V13_2 } else { Release::V15 };
    let graph = Graph::with_options(ports.clone(), Options { release });
    let (socket, queue) = graph.add_socket(Box::new(|| ()));
    let mut seconds = 0;
    while !tape.0.is_empty() {
        match tape.byte() % 8 {
            0..=4 => {
                let address = usize::from(tape.byte() % 40);
                let length = usize::from(tape.byte());
                let to = tape.piece(address);
                let message = tape.piece(length);
                if let Some(to) = SockaddrNg::new(to) {
                    let _ = graph.send_control(socket, &to, message);
                }
            }
            5 => {
                let name = usize::from(tape.byte() % 16);
                let hook = HookName::from_wire(tape.piece(name));
                let length = usize::from(tape.byte());
                let _ = graph.send_data(socket, &hook, tape.piece(length));
            }
            6 => {
                let node = NodeId(u32::from(tape.byte()));
                let side = if tape.byte().is_multiple_of(2) { Side::Stack } else { Side::Wire };
                let length = usize::from(tape.byte());
                graph.input(node, side, tape.piece(length));
            }
            _ => {
                seconds += u64::from(tape.byte());
                graph.tick(Duration::from_secs(seconds));
            }
        }
        // A node that was shut down says so for ever.
        while matches!(queue.pop(), Some(Event::Message(_) | Event::Error(_))) {}
    }
    check(&graph, &ports);
}

fn check(graph: &Graph, ports: &MemoryPorts) {
    let snapshot = graph.snapshot();
    let mut names = std::collections::HashSet::new();
    for node in &snapshot.nodes {
        assert!(node.name.is_empty() || names.insert(node.name), "{} twice", node.name);
        for hook in &node.hooks {
            let back =
                snapshot.node(hook.peer).and_then(|p| p.hooks.iter().find(|h| h.name == hook.peer_hook));
            assert_eq!(
                back.map(|b| (b.peer, b.peer_hook)),
                Some((node.id, hook.name)),
                "an edge with one end"
            );
        }
    }
    let eifaces = snapshot.nodes.iter().filter(|n| matches!(n.detail, Detail::Eiface { .. })).count();
    assert_eq!(ports.alive(), eifaces, "an interface for each, and no more");
}
