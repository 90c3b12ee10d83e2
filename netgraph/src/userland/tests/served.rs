//! The graph over descriptors, as another process sees it.

use super::*;
use crate::data::FdData;
use crate::transport::fd::FdTransport;
use crate::transport::frame::{Op, Packet};
use std::os::fd::OwnedFd;

fn serve() -> (Server, MemoryPorts) {
    let ports = MemoryPorts::default();
    (Server::new(Graph::new(ports.clone())).unwrap(), ports)
}
use server::Server;

/// Looks until something is so. The server works on its own thread.
fn until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..5000 {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    panic!("never: {what}");
}

fn client(server: &Server) -> (Handle<FdTransport>, FdData) {
    let (control, data) = server.open_socket().unwrap();
    (Handle::new(FdTransport::open(control).unwrap()), FdData::new(data))
}

#[test]
fn requests_and_errors() {
    let (server, ports) = serve();
    let (handle, _data) = client(&server);
    let own = handle.own().unwrap();
    assert_eq!(own.node_type, "socket");
    assert_eq!(errno(handle.node(NodeRef::Own).mkpeer("socket", "a", "b")), Errno::EINVAL);
    assert_eq!(errno(handle.node(NodeRef::Name("nobody")).shutdown()), Errno::ENOENT);
    handle.node(NodeRef::Own).mkpeer("hub", "a", "x").unwrap();
    let hub = handle.node(NodeRef::Own).peer("a").unwrap().id;
    handle.hub(hub).set_persistent().unwrap();
    for n in 0..12_000 {
        handle.node(hub).mkpeer("eiface", &format!("w{n}"), "ether").unwrap();
    }
    assert_eq!(handle.nodes().unwrap().len(), 12_002, "a reply of 864 kB, in pieces");
    assert_eq!(ports.alive(), 12_000);
    handle.with_transport(|t| t.bind(&crate::NodeName::new("me").unwrap())).unwrap();
    assert_eq!(handle.own().unwrap().name, "me");
}

#[test]
fn many_clients_at_once() {
    let (server, _) = serve();
    let (first, _data) = client(&server);
    first.node(NodeRef::Own).mkpeer("hub", "a", "x").unwrap();
    let hub = first.node(NodeRef::Own).peer("a").unwrap().id;
    first.hub(hub).set_persistent().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (handle, data) = client(&server);
            scope.spawn(move || {
                for n in 0..100 {
                    let hook = format!("t{thread}-{n}");
                    handle.node(hub).mkpeer("eiface", &hook, "ether").unwrap();
                    let node = handle.node(hub).peer(&hook).unwrap().id;
                    handle.node(node).set_name(&format!("n{thread}-{n}")).unwrap();
                }
                drop(data);
            });
        }
    });
    assert_eq!(first.node(hub).info().unwrap().hooks, 401);
}

#[test]
fn a_client_that_closes_is_gone() {
    let (server, _) = serve();
    let (handle, data) = client(&server);
    let (other, _other_data) = client(&server);
    let id = handle.own().unwrap().id;
    drop(handle);
    until("the node is gone", || other.node(id).info().is_err());
    let end = data.receive(&mut [0; 10], Duration::from_secs(5)).unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof);
    drop(server);
    let end = other.with_transport(|t| t.receive(Duration::from_secs(5))).unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_node_that_is_shut_down_ends_its_socket() {
    let (server, _) = serve();
    let (handle, _data) = client(&server);
    let (other, _other_data) = client(&server);
    other.node(handle.own().unwrap().id).shutdown().unwrap();
    let end = handle.with_transport(|t| t.receive(Duration::from_secs(5))).unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn frames_go_both_ways() {
    let (server, ports) = serve();
    let (handle, data) = client(&server);
    let own = handle.node(NodeRef::Own);
    own.mkpeer("bridge", "lan", "link1").unwrap();
    let bridge = own.peer("lan").unwrap().id;
    handle.node(bridge).mkpeer("eiface", "link2", "ether").unwrap();
    let port = ports.get(0).unwrap();
    port.send(&frame(Mac::BROADCAST, mac(1)));
    let mut buffer = [0; 2048];
    let (hook, len) = data.receive(&mut buffer, Duration::from_secs(5)).unwrap().unwrap();
    assert_eq!((hook, &buffer[..len]), (HookName::new("lan").unwrap(), &frame(Mac::BROADCAST, mac(1))[..]));
    data.send(&hook, &frame(mac(1), mac(2))).unwrap();
    until("the answer is there", || port.count() == 1);
    assert_eq!(port.take(), [frame(mac(1), mac(2))]);
    data.send(&HookName::new("nowhere").unwrap(), b"lost").unwrap();
    data.send(&HookName::from_wire(b""), &frame(mac(1), mac(2))).unwrap();
    until("the only hook", || port.count() == 2);
    assert_eq!(data.receive(&mut buffer, Duration::ZERO).unwrap(), None);
}

#[test]
fn a_lost_reply_is_said_over_a_descriptor_too() {
    let (server, _) = serve();
    let (handle, _data) = client(&server);
    handle.with_transport(|t| t.set_receive_buffer(100)).unwrap();
    assert!(matches!(handle.own(), Err(Error::ReplyLost { .. })));
    let refused = handle.with_transport(|t| t.set_receive_buffer(u32::MAX)).unwrap_err();
    assert_eq!(Errno::from_io(&refused), Some(Errno::ENOBUFS));
    handle.with_transport(|t| t.set_receive_buffer(20_480)).unwrap();
    handle.own().unwrap();
}

#[test]
fn limits_of_the_wire_hold() {
    let (server, _) = serve();
    let (handle, _data) = client(&server);
    let to = SockaddrNg::new(b".").unwrap();
    let too_long = handle.with_transport(|t| t.send(&to, &vec![8; 200_000])).unwrap_err();
    assert_eq!(Errno::from_io(&too_long), Some(Errno::EMSGSIZE));
    handle.own().unwrap();
}

#[test]
fn who_does_not_keep_to_the_protocol_is_cut_off() {
    let (server, _) = serve();
    let (witness, _data) = client(&server);
    let nonsense: Vec<Vec<u8>> = vec![
        b"x".to_vec(),
        vec![0xff; 40],
        Packet::cut(Op::Result, 1, 0, &[]).remove(0),
        vec![1, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ];
    for packet in nonsense {
        let (control, _their_data): (OwnedFd, OwnedFd) = server.open_socket().unwrap();
        crate::transport::frame::send_parts(std::os::fd::AsFd::as_fd(&control), &[&packet]).unwrap();
        let mut transport = FdTransport::new(control);
        let end = transport.receive(Duration::from_secs(5)).unwrap_err();
        assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof, "{packet:?}");
    }
    witness.own().unwrap();
    assert_eq!(witness.nodes().unwrap().len(), 1);
}
