//! One task per UDP socket. What can be answered here is answered in the loop (a microsecond of computing and no
//! waiting, the slow path included); only forwarding leaves it, and that is limited.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::metrics::Counters;
use super::rate::Turn;
use crate::fast::{Ask, Verdict, answer, error_reply, truncated_reply};
use crate::wire::{MAX_UDP, Question, Transport, rcode};

/// Datagrams handled before other tasks of the thread get a turn.
const BATCH: usize = 64;
/// No query is this long; what is, is cut and answered FORMERR.
const MAX_QUERY: usize = 4096;
/// Pause after an error of the socket itself, so that a lasting one does not become a busy loop.
const AFTER_ERROR: Duration = Duration::from_millis(50);

pub(super) async fn serve(shared: Arc<Shared>, socket: Arc<UdpSocket>, stop: CancellationToken) {
    let mut query = vec![0; MAX_QUERY];
    let mut out = Vec::with_capacity(MAX_UDP);
    while let Some(ready) = stop.run_until_cancelled(socket.readable()).await {
        let mut failed = ready.is_err();
        let now = tokio::time::Instant::now();
        for _ in 0..BATCH {
            match socket.try_recv_from(&mut query) {
                Ok((len, client)) => {
                    let bytes = query.get(..len).unwrap_or_default();
                    // What was taken out of the socket is answered, also when it is the last.
                    if handle(&shared, &socket, bytes, client, now, &mut out)
                        && let Some(Err(_)) =
                            shared.kill.run_until_cancelled(send(&socket, &out, client)).await
                    {
                        Counters::one(&shared.counters.send_errors);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::debug!(%error, "receiving a DNS query failed");
                    Counters::one(&shared.counters.receive_errors);
                    failed = true;
                    break;
                }
            }
        }
        if failed {
            tokio::time::sleep(AFTER_ERROR).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
}

async fn send(socket: &UdpSocket, reply: &[u8], client: SocketAddr) -> io::Result<()> {
    match socket.try_send_to(reply, client) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            socket.send_to(reply, client).await.map(|_| ())
        }
        other => other.map(|_| ()),
    }
}

/// True when `out` holds an answer to send now.
fn handle(
    shared: &Arc<Shared>,
    socket: &Arc<UdpSocket>,
    query: &[u8],
    client: SocketAddr,
    now: tokio::time::Instant,
    out: &mut Vec<u8>,
) -> bool {
    let counters = &shared.counters;
    Counters::one(&counters.udp_queries);
    // Nobody asks from port 0; an answer there is a tool against someone else.
    if client.port() == 0 {
        Counters::one(&counters.dropped);
        return false;
    }
    out.clear();
    let turn = shared.rate.take(client.ip(), now);
    if turn != Turn::Answer {
        Counters::one(&counters.limited);
        return turn == Turn::Slip && truncated_reply(query, out);
    }
    let ask = Ask {
        transport: Transport::Udp,
        recursion: shared.may_forward(client.ip()),
        rotation: shared.next_rotation(),
    };
    match answer(&shared.snapshot.load(), query, ask, out) {
        Verdict::Answered(outcome) => {
            counters.answered(outcome);
            true
        }
        Verdict::Drop => {
            Counters::one(&counters.dropped);
            false
        }
        Verdict::Forward(question) => !forward(shared, socket, query, question, client, ask, out),
    }
}

/// False when there is no place for it; `out` then has the SERVFAIL.
fn forward(
    shared: &Arc<Shared>,
    socket: &Arc<UdpSocket>,
    query: &[u8],
    question: Question,
    client: SocketAddr,
    ask: Ask,
    out: &mut Vec<u8>,
) -> bool {
    let Some(place) = shared.forwards.take(client.ip()) else {
        Counters::one(&shared.counters.forward_overload);
        error_reply(query, &question, ask, rcode::SERVFAIL, out);
        return false;
    };
    let (task, socket, query) = (Arc::clone(shared), Arc::clone(socket), query.to_vec());
    shared.tasks.spawn(async move {
        let _place = place;
        if let Some(reply) = task.forward(client.ip(), &query, &question, Transport::Udp).await
            && send(&socket, &reply, client).await.is_err()
        {
            Counters::one(&task.counters.send_errors);
        }
    });
    true
}
