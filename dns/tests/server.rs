//! The server over real sockets: limits, forwarding, shutdown, and what must not bring it down.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use common::*;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use tokio::task::spawn_blocking;
use warren_dns::Change;
use warren_dns::Transport;
use warren_dns::forward::Patience;
use warren_dns::server::{Limits, Policy, Rate, Server};

async fn udp(server: SocketAddr, name: &str, rtype: RecordType) -> Message {
    let query = query(name, rtype, true);
    spawn_blocking(move || over_udp(server, &query)).await.unwrap()
}

async fn tcp(server: SocketAddr, name: &str, rtype: RecordType) -> Message {
    let query = query(name, rtype, true);
    spawn_blocking(move || over_tcp(server, &query)).await.unwrap()
}

fn code(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

#[tokio::test]
async fn an_update_is_visible_to_the_next_query() {
    let run = start(&[], limits());
    assert_eq!(udp(run.address, "new1.web.shop.internal", RecordType::A).await.answers.len(), 0);
    let next = run.snapshot.load().apply("shop.internal", &[Change::AddInstance(instance("new1", "web", 7))]);
    run.snapshot.store(Arc::new(next.unwrap()));
    assert_eq!(udp(run.address, "new1.web.shop.internal", RecordType::A).await.answers.len(), 1);
    assert_eq!(tcp(run.address, "web.shop.internal", RecordType::A).await.answers.len(), 3);
    assert_eq!(
        udp(run.address, "example.org", RecordType::A).await.metadata.response_code,
        ResponseCode::Refused
    );
    let counts = run.server.counts();
    assert_eq!((counts.udp_queries, counts.tcp_queries, counts.nxdomain, counts.refused), (3, 1, 1, 1));
}

#[tokio::test]
async fn truncated_over_udp_whole_over_tcp() {
    let run = start(&[], limits());
    assert!(udp(run.address, "crowd.shop.internal", RecordType::A).await.metadata.truncation);
    let whole = tcp(run.address, "crowd.shop.internal", RecordType::A).await;
    assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 200));
}

#[tokio::test]
async fn forwarding() {
    let good = upstream();
    // Nobody is there: the system says so at once. Then one that never answers. Then the good one.
    let refused = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mute = UdpSocket::bind("127.0.0.1:0").unwrap();
    let run = start(&[refused, mute.local_addr().unwrap(), good.address], limits());
    let plain = udp(run.address, "Plain.example.org", RecordType::A).await;
    assert_eq!((plain.answers.len(), code(&plain)), (1, ResponseCode::NoError));
    assert!(plain.metadata.recursion_available && !plain.metadata.authoritative && plain.edns.is_some());
    assert_eq!(plain.queries[0].name().to_string(), "Plain.example.org.");
    assert!(run.server.counts().upstream_failures >= 1);

    assert_eq!(code(&udp(run.address, "nowhere.example.org", RecordType::A).await), ResponseCode::NXDomain);
    assert_eq!(udp(run.address, "liar.example.org", RecordType::A).await.answers.len(), 1);
    assert!(udp(run.address, "big.example.org", RecordType::TXT).await.metadata.truncation);
    assert_eq!(tcp(run.address, "big.example.org", RecordType::TXT).await.answers.len(), 30);
    let failed = udp(run.address, "fail.example.org", RecordType::A).await;
    assert_eq!(code(&failed), ResponseCode::ServFail);
    assert_eq!(run.server.counts().forward_failed, 0, "an upstream did answer, if badly");
    assert_eq!(code(&udp(run.address, "silent.example.org", RecordType::A).await), ResponseCode::ServFail);
    assert_eq!(run.server.counts().forward_failed, 1);
}

#[tokio::test]
async fn no_open_resolver() {
    let good = upstream();
    let run = start(&[good.address], limits());
    run.server.set_policy(to(&[("10.0.0.0/8", good.address)]));
    let refused = udp(run.address, "plain.example.org", RecordType::A).await;
    assert_eq!(code(&refused), ResponseCode::Refused);
    assert!(!refused.metadata.recursion_available);
    assert_eq!(good.asked.load(Ordering::SeqCst), 0);
    assert_eq!(udp(run.address, "web.shop.internal", RecordType::A).await.answers.len(), 2);
}

#[tokio::test]
async fn each_client_is_forwarded_to_the_resolvers_of_its_own_network() {
    let (office, public) = (upstream(), upstream());
    let run = start(&[], limits());
    // The client is 127.0.0.1 each time: what changes is whose it is.
    run.server.set_policy(to(&[("127.1.0.0/16", public.address), ("127.0.0.0/16", office.address)]));
    for _ in 0..3 {
        assert_eq!(udp(run.address, "plain.example.org", RecordType::A).await.answers.len(), 1);
        assert_eq!(tcp(run.address, "plain.example.org", RecordType::A).await.answers.len(), 1);
    }
    let asked = |upstream: &Upstream| upstream.asked.load(Ordering::SeqCst);
    assert_eq!((asked(&office), asked(&public)), (6, 0));
    // Also when its own do not answer.
    assert_eq!(code(&udp(run.address, "silent.example.org", RecordType::A).await), ResponseCode::ServFail);
    assert_eq!(asked(&public), 0);
    run.server.set_policy(to(&[("127.1.0.0/16", office.address), ("127.0.0.0/16", public.address)]));
    assert_eq!(udp(run.address, "plain.example.org", RecordType::A).await.answers.len(), 1);
    assert_eq!((asked(&office), asked(&public)), (7, 1));
}

#[tokio::test]
async fn it_does_not_ask_itself() {
    let run = start(&[], limits());
    run.server.set_policy(to(&[("127.0.0.0/8", run.address)]));
    assert_eq!(code(&udp(run.address, "plain.example.org", RecordType::A).await), ResponseCode::Refused);
    assert_eq!(run.server.counts().udp_queries, 1);
}

#[tokio::test]
async fn too_many_forwards_are_refused_a_place() {
    let mute = UdpSocket::bind("127.0.0.1:0").unwrap();
    // The first holds its place for so long: the second must come meanwhile.
    let patience = Patience { attempt: Duration::from_secs(5), rounds: 1, total: Duration::from_secs(5) };
    let limits = Limits { forwards: 10, forwards_per_client: 1, patience, ..limits() };
    let run = start(&[mute.local_addr().unwrap()], limits);
    let first = tokio::spawn(udp(run.address, "silent.example.org", RecordType::A));
    // The first has its place once the upstream has heard of it.
    let heard = spawn_blocking(move || mute.recv_from(&mut [0; 512]).map(|_| mute));
    let _mute = heard.await.unwrap().unwrap();
    let second = udp(run.address, "silent2.example.org", RecordType::A).await;
    assert_eq!((code(&second), run.server.counts().forward_overload), (ResponseCode::ServFail, 1));
    assert_eq!(udp(run.address, "web.shop.internal", RecordType::A).await.answers.len(), 2);
    assert_eq!(code(&first.await.unwrap()), ResponseCode::ServFail);
}

#[tokio::test]
async fn tcp_pipelines_and_answers_as_ready() {
    let good = upstream();
    let run = start(&[good.address], limits());
    let server = run.address;
    let got = spawn_blocking(move || {
        let mut stream = connect(server);
        let mut all = framed(&query("silent.example.org", RecordType::A, false));
        for _ in 0..300 {
            all.extend(framed(&query("web.shop.internal", RecordType::A, false)));
        }
        // In two pieces, cut inside a message and its length.
        let (head, tail) = all.split_at(37);
        stream.write_all(head).unwrap();
        stream.flush().unwrap();
        stream.write_all(tail).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let messages: Vec<Message> = (0..301).map(|_| read_message(&mut stream)).collect();
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0, "closed after the last");
        messages
    });
    let got = got.await.unwrap();
    assert!(got[..300].iter().all(|m| m.answers.len() == 2));
    assert_eq!(code(&got[300]), ResponseCode::ServFail, "the slow one last");
}

#[tokio::test]
async fn tcp_limits() {
    let limits = Limits { connections_per_client: 2, tcp_idle: Duration::from_secs(3), ..limits() };
    let run = start(&[], limits);
    let server = run.address;
    spawn_blocking(move || {
        let mut held: Vec<_> = (0..2)
            .map(|_| {
                let mut stream = connect(server);
                stream.write_all(&framed(&query("web.shop.internal", RecordType::A, false))).unwrap();
                read_message(&mut stream);
                stream
            })
            .collect();
        let mut third = connect(server);
        assert_eq!(third.read(&mut [0; 1]).unwrap_or(0), 0, "no place for a third");
        // One that says nothing and one that drips are both closed.
        held[0].write_all(&[0]).unwrap();
        for mut stream in held {
            assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
        }
        let mut rude = connect(server);
        rude.write_all(&framed(b"short")).unwrap();
        assert_eq!(rude.read(&mut [0; 1]).unwrap_or(0), 0, "no DNS, no connection");
        assert_eq!(over_tcp(server, &query("web.shop.internal", RecordType::A, false)).answers.len(), 2);
    })
    .await
    .unwrap();
    assert_eq!(run.server.counts().tcp_rejected, 1);
}

#[tokio::test]
async fn sockets_outlive_the_server() {
    let mute = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (udp_socket, tcp_socket) = sockets();
    let snapshot = Arc::new(ArcSwap::from_pointee(shop()));
    let policy = to(&[("127.0.0.0/8", mute.local_addr().unwrap())]);
    let start = || {
        let server = Server::new(Arc::clone(&snapshot), policy.clone(), limits());
        let address = server.add_udp(udp_socket.try_clone().unwrap()).unwrap();
        server.add_tcp(tcp_socket.try_clone().unwrap()).unwrap();
        (server, address)
    };
    let (server, address) = start();
    // A forwarded query is under way while the server is shut down, and is still answered.
    let waiting = tokio::spawn(udp(address, "silent.example.org", RecordType::A));
    let heard = spawn_blocking(move || mute.recv_from(&mut [0; 512]).map(|_| mute));
    let _mute = heard.await.unwrap().unwrap();
    assert!(server.shutdown(PATIENT).await, "ended by itself");
    assert_eq!(code(&waiting.await.unwrap()), ResponseCode::ServFail);
    drop(server);
    // Asked while nobody serves: the socket keeps the query for the next server.
    let asked = tokio::spawn(udp(address, "web.shop.internal", RecordType::A));
    let (server, again) = start();
    assert_eq!(again, address);
    assert_eq!(asked.await.unwrap().answers.len(), 2);
    assert_eq!(tcp(address, "web.shop.internal", RecordType::A).await.answers.len(), 2);
    assert!(server.shutdown(PATIENT).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_answers_all_that_it_took_out_of_its_socket() {
    let snapshot = Arc::new(ArcSwap::from_pointee(shop()));
    let ask = query("web.shop.internal", RecordType::A, false);
    for round in 0..12 {
        let (socket, _) = sockets();
        let server = Server::new(Arc::clone(&snapshot), Policy::default(), limits());
        let address = server.add_udp(socket.try_clone().unwrap()).unwrap();
        let ask = ask.clone();
        let (first, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (had, ended) = (Arc::clone(&first), Arc::clone(&over));
        // Some on their way all the time, never more than the socket has room for.
        let client = spawn_blocking(move || {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.connect(address).unwrap();
            client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let (mut sent, mut answered) = (0, 0);
            loop {
                while sent < answered + 24 {
                    client.send(&ask).unwrap();
                    sent += 1;
                }
                // Looked at before: while the server runs, want of an answer says nothing.
                let last = ended.load(Ordering::SeqCst);
                match client.recv(&mut [0; 1500]) {
                    Ok(_) => {
                        answered += 1;
                        had.store(true, Ordering::SeqCst);
                    }
                    Err(_) if last => return (sent, answered),
                    Err(_) => {}
                }
            }
        });
        while !first.load(Ordering::SeqCst) && !client.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(5 + round % 7)).await;
        assert!(server.shutdown(PATIENT).await);
        drop(server);
        over.store(true, Ordering::SeqCst);
        let (sent, answered) = client.await.unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut left = 0;
        while socket.recv(&mut [0; 1500]).is_ok() {
            left += 1;
        }
        assert!(answered > 0, "it was never asked");
        assert_eq!(sent, answered + left, "questions that were taken and not answered, in round {round}");
    }
}

#[tokio::test]
async fn a_shutdown_without_patience_ends_what_hangs() {
    let mute = UdpSocket::bind("127.0.0.1:0").unwrap();
    let run = start(&[mute.local_addr().unwrap()], Limits { patience: Default::default(), ..limits() });
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(&query("silent.example.org", RecordType::A, false), run.address).unwrap();
    let idle = spawn_blocking(move || (mute.recv_from(&mut [0; 512]).map(|_| mute), connect(run.address)));
    let _kept = idle.await.unwrap();
    assert!(!run.server.shutdown(Duration::ZERO).await);
}

#[tokio::test]
async fn sockets_come_and_go() {
    let run = start(&[], limits());
    let everywhere = UdpSocket::bind("0.0.0.0:0").unwrap();
    let error = run.server.add_udp(everywhere).unwrap_err().to_string();
    assert!(error.contains("bound to every address"), "{error}");
    let (second, _) = sockets();
    let copy = second.try_clone().unwrap();
    let address = run.server.add_udp(second).unwrap();
    assert!(run.server.add_udp(copy).unwrap_err().to_string().contains("served already"));
    assert_eq!(udp(address, "web.shop.internal", RecordType::A).await.answers.len(), 2);
    assert!(run.server.listening().contains(&(address, Transport::Udp)));
    assert!(run.server.remove(address) && !run.server.remove(address));
    assert_eq!(run.server.listening().len(), 2);
    assert_eq!(udp(run.address, "web.shop.internal", RecordType::A).await.answers.len(), 2);
}

#[tokio::test]
async fn garbage_does_no_harm() {
    let run = start(&[], limits());
    let server = run.address;
    spawn_blocking(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut state = 1u64;
        for round in 0..2_000usize {
            let bytes: Vec<u8> = (0..round % 600)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (state >> 56) as u8
                })
                .collect();
            socket.send_to(&bytes, server).unwrap();
        }
        // Over TCP, because the flood may have filled the UDP socket's buffer; and over UDP once that has drained.
        assert_eq!(over_tcp(server, &query("web.shop.internal", RecordType::A, false)).answers.len(), 2);
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let asked = query("web.shop.internal", RecordType::A, false);
        let mut buffer = [0; 4096];
        let answered = (0..100).any(|_| {
            socket.send_to(&asked, server).unwrap();
            // Answers to garbage come first: errors, never with records.
            std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|_| buffer[7]))
                .any(|answers| answers == 2)
        });
        assert!(answered);
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_client_that_floods_is_held_back_and_its_neighbour_is_not() {
    // Nothing comes back within the test: what is answered is the burst. Without the limiter all of it would be.
    let run = start(&[], Limits { rate: Rate { burst: 20, per_second: 1 }, ..limits() });
    let address = run.address;
    let (whole, empty) = spawn_blocking(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(address).unwrap();
        let (mut whole, mut empty) = (0, 0);
        for round in 0..10 {
            // What is not there at the last look is counted as held back.
            let patience = if round < 9 { Duration::from_millis(500) } else { Duration::from_secs(3) };
            socket.set_read_timeout(Some(patience)).unwrap();
            for _ in 0..50 {
                socket.send(&query("web.shop.internal", RecordType::A, true)).unwrap();
            }
            let mut buffer = [0; 4096];
            while let Ok(len) = socket.recv(&mut buffer) {
                let answer = Message::from_vec(&buffer[..len]).unwrap();
                match answer.metadata.truncation {
                    true => empty += usize::from(answer.answers.is_empty()),
                    false => whole += 1,
                }
            }
        }
        (whole, empty)
    })
    .await
    .unwrap();
    assert!((20..60).contains(&whole), "{whole} whole answers");
    assert!((100..200).contains(&empty), "{empty} empty answers with TC");
    assert_eq!(run.server.counts().limited + whole, 500);
    // The flooder itself is served over TCP; a neighbour notices nothing.
    assert_eq!(tcp(address, "web.shop.internal", RecordType::A).await.answers.len(), 2);
    let neighbour = spawn_blocking(move || {
        let socket = UdpSocket::bind("127.0.0.7:0").unwrap();
        socket.set_read_timeout(Some(PATIENT)).unwrap();
        socket.send_to(&query("web.shop.internal", RecordType::A, true), address).unwrap();
        let mut buffer = [0; 4096];
        let len = socket.recv(&mut buffer).unwrap();
        Message::from_vec(&buffer[..len]).unwrap()
    });
    assert_eq!(neighbour.await.unwrap().answers.len(), 2);
}
