//! The sockets: UDP and TCP, with a limit to everything a client can make us hold.
//!
//! Sockets are handed in already bound, because the process that owns them survives this one. Each is bound to
//! one address, so an answer leaves from the address that was asked. They can come and go while the server runs,
//! as networks do.

mod metrics;
mod quota;
mod rate;
mod tcp;
mod udp;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use metrics::Counts;
pub use rate::Rate;

use crate::forward::{Forwarder, Patience};
use crate::wire::{Question, Transport};
use crate::zone::Snapshot;
use metrics::Counters;
use quota::Quota;

/// Who may have what forwarded, and where to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The first that has a client is its: what one may ask for is nothing to another's resolvers. A client that is in none gets
    /// REFUSED for foreign names, so this is no open resolver.
    pub routes: Vec<Route>,
}

/// Clients, and where their questions for foreign names go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Route {
    /// Where the clients are.
    pub clients: Vec<IpNet>,
    /// Resolvers to ask, in order. With none, foreign names are REFUSED. Addresses this server itself answers on are
    /// passed over, so that it cannot ask itself.
    pub upstreams: Vec<SocketAddr>,
}

impl Policy {
    fn upstreams(&self, client: IpAddr) -> &[SocketAddr] {
        let client = client.to_canonical();
        let route = self.routes.iter().find(|r| r.clients.iter().any(|prefix| prefix.contains(&client)));
        route.map_or(&[], |route| &route.upstreams)
    }
}

/// What clients can make the server hold at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Forwarded queries under way. Each holds a socket.
    pub forwards: usize,
    /// Of those, one client's.
    pub forwards_per_client: usize,
    /// TCP connections open.
    pub connections: usize,
    /// Of those, one client's.
    pub connections_per_client: usize,
    /// How long a TCP connection may go without completing a query, and how long one write to it may take.
    pub tcp_idle: Duration,
    /// Forwarded queries of one TCP connection under way; no more are read until one is done.
    pub pipeline: usize,
    /// How long forwarding tries.
    pub patience: Patience,
    /// How many answers a client gets over UDP.
    pub rate: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            forwards: 512,
            forwards_per_client: 64,
            connections: 256,
            connections_per_client: 32,
            tcp_idle: Duration::from_secs(10),
            pipeline: 16,
            patience: Patience::default(),
            rate: Rate::default(),
        }
    }
}

/// What all tasks share.
struct Shared {
    snapshot: Arc<ArcSwap<Snapshot>>,
    policy: ArcSwap<Policy>,
    limits: Limits,
    forwarder: Forwarder,
    forwards: Arc<Quota>,
    connections: Arc<Quota>,
    rate: rate::Limiter,
    counters: Counters,
    rotation: AtomicU32,
    /// Addresses answered on, each with its off switch.
    listening: Mutex<HashMap<(SocketAddr, Transport), CancellationToken>>,
    tasks: TaskTracker,
    /// Begin nothing new.
    stop: CancellationToken,
    /// End what is under way.
    kill: CancellationToken,
}

/// A running name server. Dropping it stops it without waiting for forwarded queries.
pub struct Server {
    shared: Arc<Shared>,
}

impl Server {
    /// A server without sockets yet. Each query is answered from what `snapshot` holds at that moment.
    pub fn new(snapshot: Arc<ArcSwap<Snapshot>>, policy: Policy, limits: Limits) -> Server {
        let shared = Shared {
            snapshot,
            policy: ArcSwap::from_pointee(policy),
            limits,
            forwarder: Forwarder::new(limits.patience),
            forwards: Quota::new(limits.forwards, limits.forwards_per_client),
            connections: Quota::new(limits.connections, limits.connections_per_client),
            rate: rate::Limiter::new(limits.rate, tokio::time::Instant::now()),
            counters: Counters::default(),
            rotation: AtomicU32::new(0),
            listening: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
        };
        Server { shared: Arc::new(shared) }
    }

    /// Answers on a UDP socket from now on; returns its address. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When the socket is not bound to a specific address (answers could leave from another one), when that
    /// address is served already, or what the system says.
    pub fn add_udp(&self, socket: std::net::UdpSocket) -> io::Result<SocketAddr> {
        let address = specific(socket.local_addr()?)?;
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        let stop = self.shared.enlist(address, Transport::Udp)?;
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn(udp::serve(shared, Arc::new(socket), stop));
        Ok(address)
    }

    /// Answers on a TCP listener from now on; returns its address. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// As for [`Server::add_udp`].
    pub fn add_tcp(&self, listener: std::net::TcpListener) -> io::Result<SocketAddr> {
        let address = specific(listener.local_addr()?)?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let stop = self.shared.enlist(address, Transport::Tcp)?;
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn(tcp::serve(shared, listener, stop));
        Ok(address)
    }

    /// Stops answering on an address, UDP and TCP, and closes our descriptors of it. Connections under way end
    /// after the queries they have sent. False when it was not served.
    pub fn remove(&self, address: SocketAddr) -> bool {
        let mut listening = self.shared.listening();
        let sockets = [Transport::Udp, Transport::Tcp].map(|t| listening.remove(&(address, t)));
        sockets.iter().flatten().for_each(CancellationToken::cancel);
        sockets.iter().any(Option::is_some)
    }

    /// The addresses answered on, sorted.
    pub fn listening(&self) -> Vec<(SocketAddr, Transport)> {
        let mut all: Vec<_> = self.shared.listening().keys().copied().collect();
        all.sort();
        all
    }

    /// Replaces the policy for all queries from now on.
    pub fn set_policy(&self, policy: Policy) {
        self.shared.policy.store(Arc::new(policy));
    }

    /// The counters now.
    pub fn counts(&self) -> Counts {
        self.shared.counters.read()
    }

    /// Begins nothing new, gives what is under way `grace` to end, then ends it. True when it ended by itself.
    /// The sockets stay open with whoever else holds them.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        let graceful = tokio::time::timeout(grace, self.shared.tasks.wait()).await.is_ok();
        self.shared.kill.cancel();
        self.shared.tasks.wait().await;
        graceful
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.shared.kill.cancel();
    }
}

fn specific(address: SocketAddr) -> io::Result<SocketAddr> {
    if address.ip().is_unspecified() {
        let text = format!(
            "the DNS socket {address} is bound to every address; bind it to the one it is to answer on"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(address)
}

impl Shared {
    fn listening(&self) -> std::sync::MutexGuard<'_, HashMap<(SocketAddr, Transport), CancellationToken>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enlist(&self, address: SocketAddr, transport: Transport) -> io::Result<CancellationToken> {
        let mut listening = self.listening();
        if listening.contains_key(&(address, transport)) {
            let text = format!("{address} ({transport:?}) is served already");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
        }
        let stop = self.stop.child_token();
        listening.insert((address, transport), stop.clone());
        Ok(stop)
    }

    /// Whether `client` may have foreign names forwarded.
    fn may_forward(&self, client: IpAddr) -> bool {
        !self.policy.load().upstreams(client).is_empty()
    }

    fn next_rotation(&self) -> u32 {
        self.rotation.fetch_add(1, Ordering::Relaxed)
    }

    /// Forwards a query and counts what came of it. Nothing when the server is being ended.
    async fn forward(
        &self,
        client: IpAddr,
        query: &[u8],
        question: &Question,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let upstreams: Vec<SocketAddr> = {
            let policy = self.policy.load();
            let own = self.listening();
            let is_own = |a: &SocketAddr| {
                own.contains_key(&(*a, Transport::Udp)) || own.contains_key(&(*a, Transport::Tcp))
            };
            policy.upstreams(client).iter().copied().filter(|a| !is_own(a)).collect()
        };
        Counters::one(&self.counters.forwarded);
        let work = self.forwarder.forward(&upstreams, query, question, transport);
        let forwarded = self.kill.run_until_cancelled(work).await?;
        Counters::add(&self.counters.upstream_failures, forwarded.failed_attempts);
        if !forwarded.answered {
            Counters::one(&self.counters.forward_failed);
        }
        Some(forwarded.reply)
    }
}
