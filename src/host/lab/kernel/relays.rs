//! Relays: ports of the machine's loopback that lead into the lab. They live here, so that they outlive the daemon.
//!
//! The listening sockets belong to the machine's network namespace (a socket keeps the one it was made in), the connections
//! onwards to the lab's. One thread with a tokio runtime carries them all.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use super::super::failure::Context;
use super::super::proto::Relay;
use super::super::wire;
use super::outer::{Down, Up};
use crate::config::spec::Proto;
use crate::host::Failure;

/// Connections of one relay at a time; further ones wait in the backlog.
const CONNECTIONS: usize = 512;
/// UDP peers of one relay at a time; the datagrams of further ones are dropped, as UDP may.
const PEERS: usize = 1024;
/// How long a UDP peer is remembered without an answer.
const PEER_IDLE: Duration = Duration::from_secs(10);

/// All relays.
pub(super) struct Relays {
    runtime: Runtime,
    /// The outer process, which makes the sockets; one request at a time.
    outer: Arc<Mutex<OwnedFd>>,
    running: Mutex<BTreeMap<String, BTreeMap<Relay, AbortHandle>>>,
}

impl Relays {
    pub(super) fn new(outer: OwnedFd) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("relays")
            .enable_all()
            .build()?;
        Ok(Self { runtime, outer: Arc::new(Mutex::new(outer)), running: Mutex::default() })
    }

    /// Makes the owner's relays these: closes what is no longer wanted, opens what is new. If one cannot be opened, those that
    /// were there stay as they were.
    pub(super) fn set(&self, owner: &str, wanted: &[Relay]) -> Result<(), Failure> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let have = running.entry(owner.to_owned()).or_default();
        let wanted: BTreeSet<Relay> = wanted.iter().copied().collect();
        // What moves its target keeps its port: the old one is closed first, or the new one would find the port taken.
        let stale: Vec<Relay> = have.keys().filter(|relay| !wanted.contains(relay)).copied().collect();
        let (moved, gone): (Vec<Relay>, Vec<Relay>) = stale
            .into_iter()
            .partition(|old| wanted.iter().any(|new| (new.proto, new.machine) == (old.proto, old.machine)));
        for relay in &moved {
            if let Some(task) = have.remove(relay) {
                self.stop(&task);
            }
        }
        let mut opened = Vec::new();
        for relay in wanted.iter().filter(|relay| !have.contains_key(relay)) {
            match self.open(*relay) {
                Ok(task) => opened.push((*relay, task)),
                Err(failure) => {
                    opened.iter().for_each(|(_, task)| self.stop(task));
                    return Err(failure);
                }
            }
        }
        have.extend(opened);
        for relay in gone {
            if let Some(task) = have.remove(&relay) {
                self.stop(&task);
            }
        }
        if have.is_empty() {
            running.remove(owner);
        }
        Ok(())
    }

    /// Ends a relay and waits until its port is free again.
    fn stop(&self, task: &AbortHandle) {
        task.abort();
        for _ in 0..1000 {
            if task.is_finished() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Gets the socket from the outer process and starts the relay.
    fn open(&self, relay: Relay) -> Result<AbortHandle, Failure> {
        let socket = {
            let outer = self.outer.lock().unwrap_or_else(PoisonError::into_inner);
            let what = || "ask the outer process for a socket";
            wire::send(outer.as_fd(), &Up::Socket(relay.proto, relay.machine), &[]).doing(what)?;
            let (down, mut fds) = wire::receive::<Down>(outer.as_fd())
                .doing(what)?
                .ok_or_else(|| Failure::new("the outer process is gone"))?;
            let Down::Socket(how) = down else {
                return Err(Failure::new("the outer process answered something else"));
            };
            how?;
            fds.pop().ok_or_else(|| Failure::new("the outer process sent no socket"))?
        };
        let _context = self.runtime.enter();
        let start = || -> io::Result<AbortHandle> {
            Ok(match relay.proto {
                Proto::Tcp => {
                    let listener = std::net::TcpListener::from(socket);
                    listener.set_nonblocking(true)?;
                    self.runtime.spawn(tcp(TcpListener::from_std(listener)?, relay.target)).abort_handle()
                }
                Proto::Udp => {
                    let socket = std::net::UdpSocket::from(socket);
                    socket.set_nonblocking(true)?;
                    self.runtime.spawn(udp(UdpSocket::from_std(socket)?, relay.target)).abort_handle()
                }
            })
        };
        start().doing(|| format!("relay {} into the lab", relay.machine))
    }
}

/// Carries connections until it is aborted. Those under way end with it (they are in the set).
async fn tcp(listener: TcpListener, target: SocketAddr) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((mut client, _)) => {
                connections.spawn(async move {
                    // A target that refuses shows to the client as a connection that is closed at once.
                    if let Ok(mut server) = TcpStream::connect(target).await {
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                    drop(place);
                });
            }
            // Out of descriptors, say: the cause goes away or it does not, but a busy loop helps neither.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Carries datagrams: one socket in the lab for each peer on the machine, so that answers find their way.
async fn udp(socket: UdpSocket, target: SocketAddr) {
    let socket = Arc::new(socket);
    let mut peers: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut answers: JoinSet<SocketAddr> = JoinSet::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            Some(Ok(peer)) = answers.join_next() => { peers.remove(&peer); continue; }
        };
        let Ok((length, peer)) = received else {
            // An error left by ICMP is cleared by being read; any other should not make a busy loop.
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let onward = match peers.get(&peer) {
            Some(onward) => onward.clone(),
            None if peers.len() >= PEERS => continue,
            None => {
                let any: SocketAddr =
                    if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
                let Ok(onward) = UdpSocket::bind(any).await else { continue };
                if onward.connect(target).await.is_err() {
                    continue;
                }
                let onward = Arc::new(onward);
                peers.insert(peer, onward.clone());
                answers.spawn(back(onward.clone(), socket.clone(), peer));
                onward
            }
        };
        if let Some(datagram) = buffer.get(..length) {
            let _ = onward.send(datagram).await;
        }
    }
}

/// Carries the answers for one peer until there have been none for a while.
async fn back(from: Arc<UdpSocket>, to: Arc<UdpSocket>, peer: SocketAddr) -> SocketAddr {
    let mut buffer = vec![0; 65_536];
    while let Ok(Ok(length)) = tokio::time::timeout(PEER_IDLE, from.recv(&mut buffer)).await {
        if let Some(datagram) = buffer.get(..length) {
            let _ = to.send_to(datagram, peer).await;
        }
    }
    peer
}
