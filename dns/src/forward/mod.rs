//! Names that are not ours: asked of the resolvers the caller names.
//!
//! No cache and no recursion: on FreeBSD local_unbound does that better, and stands beside us. Each query goes
//! out with a random id from a socket of its own, so the source port is the system's random choice too (RFC 5452),
//! and the socket is connected, so that only the upstream's address is heard.

mod message;

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::fast::{Ask, error_reply};
use crate::wire::{MAX_UDP, Question, Transport, rcode};

/// Datagrams that are not the reply, after which the attempt counts as failed: someone is guessing.
const MAX_STRANGERS: usize = 32;

/// How long to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For one attempt at one upstream.
    pub attempt: Duration,
    /// How often the list of upstreams is gone through.
    pub rounds: usize,
    /// For all attempts together. Below the 5 s after which resolv.conf(5) clients ask again.
    pub total: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience { attempt: Duration::from_millis(1_500), rounds: 2, total: Duration::from_millis(4_500) }
    }
}

/// What forwarding a query came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forwarded {
    /// The message for the client.
    pub reply: Vec<u8>,
    /// Whether it is an upstream's answer, and not our SERVFAIL or REFUSED.
    pub answered: bool,
    /// Attempts that brought nothing usable.
    pub failed_attempts: usize,
}

/// What an upstream's bytes do to the messages of forwarding: for [`crate::fuzz`].
pub(crate) fn fuzz_relay(
    query: &[u8],
    question: &Question,
    transport: Transport,
    reply: &[u8],
    limit: usize,
) {
    let sent = message::build(query, question, 0x4711);
    assert!(hickory_proto::op::Message::from_vec(&sent).is_ok(), "what goes upstream is a message");
    // Whatever the bytes are: a reply that is believed is one to this question.
    let mut believed = sent.get(..question.end()).unwrap_or_default().to_vec();
    if let Some(word) = believed.get_mut(2..4) {
        word.copy_from_slice(&[0x81, 0x80]);
    }
    if let (Some(counts), Some(theirs)) = (believed.get_mut(6..12), reply.get(..6)) {
        counts.copy_from_slice(theirs);
    }
    believed.extend_from_slice(reply.get(6..).unwrap_or_default());
    for reply in [reply, &believed] {
        if message::answers(reply, &sent)
            && let Some(out) = message::relay(reply, query, question, transport)
        {
            assert!(out.len() <= limit, "a relayed answer of {} bytes", out.len());
            assert_eq!(out.get(..2), query.get(..2), "the answer to another query");
        }
    }
}

/// Forwards queries; remembers only which upstreams answered when they were asked last.
#[derive(Debug, Default)]
pub struct Forwarder {
    patience: Patience,
    answering: Mutex<HashSet<SocketAddr>>,
}

impl Forwarder {
    /// A forwarder that tries this long.
    pub fn new(patience: Patience) -> Forwarder {
        Forwarder { patience, answering: Mutex::default() }
    }

    /// Asks `upstreams`, beginning with the first that answered when it was asked last, and returns what to send to the client:
    /// SERVFAIL when none answers in time, REFUSED when there are none. `question` must be that of `query`.
    ///
    /// Over TCP a truncated answer is fetched again over TCP; over UDP it is passed on, because it would not fit
    /// the client either. An upstream's SERVFAIL, REFUSED, NOTIMP or FORMERR is passed on only if no other does better.
    pub async fn forward(
        &self,
        upstreams: &[SocketAddr],
        query: &[u8],
        question: &Question,
        transport: Transport,
    ) -> Forwarded {
        let own = |code| {
            let mut reply = Vec::new();
            error_reply(query, question, Ask { transport, recursion: true, rotation: 0 }, code, &mut reply);
            reply
        };
        if upstreams.is_empty() {
            return Forwarded { reply: own(rcode::REFUSED), answered: false, failed_attempts: 0 };
        }
        let mut progress = Progress::default();
        let all = self.try_all(upstreams, query, question, transport, &mut progress);
        let best = timeout(self.patience.total, all).await.ok().flatten().or(progress.second_best);
        let answered = best.is_some();
        let reply = best.unwrap_or_else(|| own(rcode::SERVFAIL));
        Forwarded { reply, answered, failed_attempts: progress.failed }
    }

    async fn try_all(
        &self,
        upstreams: &[SocketAddr],
        query: &[u8],
        question: &Question,
        transport: Transport,
        progress: &mut Progress,
    ) -> Option<Vec<u8>> {
        let first = upstreams.iter().position(|a| self.answering().contains(a)).unwrap_or(0);
        let tries = upstreams.len() * self.patience.rounds;
        for &upstream in upstreams.iter().cycle().skip(first).take(tries) {
            // Counted before, so that the attempt cut short by the total counts too.
            progress.failed += 1;
            let attempt = self.attempt(upstream, query, question, transport);
            let reply = match timeout(self.patience.attempt, attempt).await {
                Ok(Ok(reply)) => reply,
                Ok(Err(error)) => {
                    self.answering().remove(&upstream);
                    tracing::debug!(%upstream, %error, "forwarding failed");
                    continue;
                }
                Err(_) => {
                    self.answering().remove(&upstream);
                    tracing::debug!(%upstream, "no answer in time");
                    continue;
                }
            };
            let Some(relayed) = message::relay(&reply, query, question, transport) else { continue };
            if message::is_failure(&reply) {
                progress.second_best = Some(relayed);
                continue;
            }
            progress.failed -= 1;
            self.answering().insert(upstream);
            return Some(relayed);
        }
        None
    }

    fn answering(&self) -> MutexGuard<'_, HashSet<SocketAddr>> {
        self.answering.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn attempt(
        &self,
        upstream: SocketAddr,
        query: &[u8],
        question: &Question,
        transport: Transport,
    ) -> io::Result<Vec<u8>> {
        let sent = message::build(query, question, random_id()?);
        let reply = over_udp(upstream, &sent).await?;
        if message::is_truncated(&reply) && transport == Transport::Tcp {
            return over_tcp(upstream, &message::build(query, question, random_id()?)).await;
        }
        Ok(reply)
    }
}

#[derive(Default)]
struct Progress {
    failed: usize,
    /// An upstream's error, if nothing better comes.
    second_best: Option<Vec<u8>>,
}

fn random_id() -> io::Result<u16> {
    let word = getrandom::u32().map_err(io::Error::other)?;
    Ok((word & 0xffff) as u16)
}

async fn over_udp(upstream: SocketAddr, sent: &[u8]) -> io::Result<Vec<u8>> {
    let any = match upstream {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(sent).await?;
    // More than we said we take, so that a liar is seen to be one and not cut.
    let mut buffer = vec![0; 4 * MAX_UDP];
    for _ in 0..MAX_STRANGERS {
        let len = socket.recv(&mut buffer).await?;
        if buffer.get(..len).is_some_and(|reply| message::answers(reply, sent)) {
            buffer.truncate(len);
            return Ok(buffer);
        }
    }
    Err(io::Error::other("too many datagrams that are not the reply"))
}

async fn over_tcp(upstream: SocketAddr, sent: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    let len = u16::try_from(sent.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes(), sent].concat()).await?;
    let len = stream.read_u16().await?;
    let mut reply = vec![0; usize::from(len)];
    stream.read_exact(&mut reply).await?;
    if message::answers(&reply, sent) {
        Ok(reply)
    } else {
        Err(io::Error::other("the reply is to something else"))
    }
}
