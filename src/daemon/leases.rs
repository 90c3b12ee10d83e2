//! Serves DHCP: one thread per network, on a data hook of its bridge.
//!
//! The server itself is `warren_dhcp`'s; here are the frames, the reservations the engine speaks of, and the wait between
//! a promise and its being on disk.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use warren_dhcp::Mac;
use warren_dhcp::server::{
    Action, ClientKey, Lease, LeaseChange, LeaseTable, LeaseView, ReservedBinding, Server, ServerConfig,
};

use super::clock::now;
use super::driver::Handle;
use crate::host::{Failure, Frames, NoWitness, Op};
use crate::ids::Id;
use crate::lifecycle::engine::{Client, Event};
use crate::lifecycle::network::DHCP_LINK;
use crate::store::NetworkUnit;

/// How long after a hook could not be had the next attempt is made.
const RETRY: Duration = Duration::from_secs(1);
/// Promises that wait for the disk at most. Beyond that clients are not promised anything, and ask again: a disk that is full or
/// slow must not fill the memory.
const PENDING: usize = 1024;

/// All networks served.
pub struct Leases {
    handle: Handle,
    /// Reservations of networks, served or not: an instance may be known before its network is served.
    books: HashMap<Id, Arc<Mutex<Book>>>,
    lines: HashMap<Id, Arc<Line>>,
}

/// What the server of one network may look at.
#[derive(Default)]
struct Book {
    clients: HashMap<Mac, ReservedBinding>,
    reserved: HashSet<Ipv4Addr>,
    leases: LeaseTable,
}

/// A change of a lease, and the frame that promises it.
type Promise = (LeaseChange, Option<Vec<u8>>);

/// One network served.
struct Line {
    network: Id,
    book: Arc<Mutex<Book>>,
    stop: AtomicBool,
    last_token: AtomicU64,
    /// Promises that are not on disk yet.
    pending: Mutex<HashMap<u64, Promise>>,
    frames: Mutex<Option<Arc<dyn Frames>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Leases {
    /// Serves nothing yet.
    #[must_use]
    pub fn new(handle: Handle) -> Self {
        Self { handle, books: HashMap::new(), lines: HashMap::new() }
    }

    /// A client appears, changes or goes.
    pub fn reserve(&mut self, network: Id, mac: crate::host::Mac, client: Option<Client>) {
        if let Some(book) = self.books.get(&network) {
            let mut book = lock(book);
            if let Some(old) = book.clients.remove(&Mac(mac)) {
                book.reserved.remove(&old.address);
            }
        }
        let Some(client) = client else { return };
        let mut book = lock(self.books.entry(network).or_default());
        let v4 = client.addresses.iter().find_map(|a| match a {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        });
        if let Some(address) = v4 {
            book.reserved.insert(address);
            book.clients.insert(Mac(mac), ReservedBinding { address, hostname: Some(client.hostname) });
        }
    }

    /// A promise is on disk: it is given.
    pub fn acknowledge(&mut self, network: Id, token: u64) {
        let Some(line) = self.lines.get(&network) else { return };
        let Some((change, then)) = lock(&line.pending).remove(&token) else { return };
        lock(&line.book).leases.apply(&change);
        if let (Some(frame), Some(frames)) = (then, lock(&line.frames).clone())
            && let Err(error) = frames.send(&frame)
        {
            // The client asks again.
            tracing::warn!(%network, %error, "an acknowledgement could not be sent");
        }
    }

    /// Serves a network, if it is not served yet.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn serve(&mut self, unit: &NetworkUnit, domain: &str) -> Result<(), Failure> {
        let id = unit.given.id;
        if self.lines.contains_key(&id) {
            return Ok(());
        }
        let book = Arc::clone(self.books.entry(id).or_default());
        lock(&book).leases = unit.leases.clone();
        let Some(config) = config(unit, domain) else { return Ok(()) };
        let server = match Server::new(config) {
            Ok(server) => server,
            Err(error) => {
                tracing::error!(network = %id, %error, "DHCP cannot be served");
                return Ok(());
            }
        };
        let line = Arc::new(Line {
            network: id,
            book,
            stop: AtomicBool::new(false),
            last_token: AtomicU64::new(now() << 16),
            pending: Mutex::default(),
            frames: Mutex::default(),
        });
        let (for_thread, handle) = (Arc::clone(&line), self.handle.clone());
        let (bridge, mac) = (id.bridge(), unit.given.dhcp_mac);
        std::thread::Builder::new()
            .name("dhcp".into())
            .spawn(move || for_thread.serve(&handle, server, &bridge, mac))
            .map_err(|error| Failure::os("starting a thread for DHCP", &error))?;
        self.lines.insert(id, line);
        Ok(())
    }

    /// Serves a network no longer. The thread ends at its next look for a frame; its hook goes with the bridge if not before.
    pub fn unserve(&mut self, network: Id) {
        self.books.remove(&network);
        let Some(line) = self.lines.remove(&network) else { return };
        line.stop.store(true, Ordering::Release);
        *lock(&line.frames) = None;
    }
}

fn config(unit: &NetworkUnit, domain: &str) -> Option<ServerConfig> {
    let (prefix, address) = (unit.spec.ipv4?, unit.spec.dhcp4?);
    let mut config = ServerConfig::new(Mac(unit.given.dhcp_mac), address, prefix);
    config.mtu = unit.spec.mtu;
    config.gateway = unit.spec.gateway4;
    config.dns = unit.spec.gateway4.into_iter().collect();
    config.domain = Some(domain.to_owned());
    config.search = vec![domain.to_owned()];
    // With an uplink the LAN has others to ask: only what is ours is answered.
    config.authoritative = unit.spec.uplink.is_none();
    Some(config)
}

impl Line {
    fn serve(&self, handle: &Handle, mut server: Server, bridge: &str, mac: crate::host::Mac) {
        while !self.stop.load(Ordering::Acquire) {
            match self.attach(handle, bridge, mac) {
                Ok(frames) => self.pump(handle, &mut server, &*frames),
                Err(failure) => {
                    tracing::warn!(network = %self.network, %failure, "the DHCP server has no hook on its bridge; it tries again");
                    std::thread::sleep(RETRY);
                }
            }
        }
    }

    fn attach(
        &self,
        handle: &Handle,
        bridge: &str,
        mac: crate::host::Mac,
    ) -> Result<Arc<dyn Frames>, Failure> {
        let host = handle.host();
        let frames: Arc<dyn Frames> = host.frames(bridge, DHCP_LINK)?.into();
        host.perform(&Op::BridgeSeed { bridge: bridge.to_owned(), link: DHCP_LINK, mac }, &NoWitness)?;
        *lock(&self.frames) = Some(Arc::clone(&frames));
        Ok(frames)
    }

    fn pump(&self, handle: &Handle, server: &mut Server, frames: &dyn Frames) {
        if let Err(error) = frames.send(&server.announcement()) {
            tracing::debug!(%error, "the announcement was not sent");
        }
        let mut frame = Vec::new();
        while !self.stop.load(Ordering::Acquire) {
            let received = match frames.receive(&mut frame) {
                Ok(received) => received,
                Err(error) => {
                    tracing::warn!(network = %self.network, %error, "the DHCP server lost its hook");
                    *lock(&self.frames) = None;
                    std::thread::sleep(RETRY);
                    return;
                }
            };
            let mut actions = server.poll(now());
            if received.is_some() {
                actions.extend(lock(&self.book).answer(server, &frame, now()));
            }
            for action in actions {
                self.act(handle, frames, action);
            }
        }
    }

    fn act(&self, handle: &Handle, frames: &dyn Frames, action: Action) {
        match action {
            Action::Send(frame) => {
                if let Err(error) = frames.send(&frame) {
                    tracing::debug!(%error, "a frame was not sent");
                }
            }
            Action::Persist { change, then } => {
                let token = self.last_token.fetch_add(1, Ordering::Relaxed);
                {
                    let mut pending = lock(&self.pending);
                    if pending.len() >= PENDING {
                        tracing::warn!(network = %self.network, "promises of leases wait for the disk; no more are made");
                        return;
                    }
                    pending.insert(token, (change.clone(), then));
                }
                handle.tell(Event::Lease { network: self.network, change, token });
            }
            Action::Log(event) => tracing::debug!(network = %self.network, "{event}"),
        }
    }
}

impl Book {
    fn answer(&mut self, server: &mut Server, frame: &[u8], now: u64) -> Vec<Action> {
        // The engine notes by itself what has ended.
        for change in self.leases.decide_expire(now) {
            self.leases.apply(&change);
        }
        server.handle(frame, now, self)
    }
}

impl LeaseView for Book {
    fn reservation(&self, mac: Mac) -> Option<ReservedBinding> {
        self.clients.get(&mac).cloned()
    }

    fn is_reserved(&self, address: Ipv4Addr) -> bool {
        self.reserved.contains(&address)
    }

    fn lease_of(&self, client: &ClientKey) -> Option<&Lease> {
        self.leases.of(client)
    }

    fn lease_at(&self, address: Ipv4Addr) -> Option<&Lease> {
        self.leases.at(address)
    }

    fn bound_to(&self, mac: Mac) -> usize {
        self.leases.bound_to(mac)
    }

    fn free(&self, skip: &dyn Fn(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
        self.leases.free(&|address| self.reserved.contains(&address) || skip(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::driver::Driver;
    use crate::daemon::driver::tests::Nobody;
    use crate::host::Host;
    use crate::host::sim::Sim;
    use crate::lifecycle::engine::Settings;
    use crate::store::Store;

    #[test]
    fn who_comes_back_after_its_lease_ended_begins_another() {
        use warren_dhcp::server::LeaseState;
        use warren_dhcp::wire::{self, Message, MessageType, Options, Udp4, code};
        let (mac, address) = (Mac([2, 0, 0, 0, 0, 9]), Ipv4Addr::new(10, 77, 0, 9));
        let none = Ipv4Addr::UNSPECIFIED;
        let mut message = Message {
            op: wire::Op::Request,
            hops: 0,
            xid: 1,
            secs: 0,
            flags: 0,
            ciaddr: none,
            yiaddr: none,
            siaddr: none,
            giaddr: none,
            chaddr: mac,
            kind: MessageType::Request,
            options: Options::new(),
        };
        message.options.set(code::REQUESTED_IP, address.octets());
        let (payload, _) = message.build(1400);
        let udp = Udp4 { src: none, dst: Ipv4Addr::BROADCAST, src_port: 68, dst_port: 67, payload: &payload };
        let frame = wire::build_udp4(Mac::BROADCAST, mac, &udp).unwrap();
        let config = ServerConfig::new(
            Mac([2, 0, 0, 0, 0, 1]),
            Ipv4Addr::new(10, 77, 0, 2),
            "10.77.0.0/24".parse().unwrap(),
        );
        let mut server = Server::new(config).unwrap();
        let mut book = Book::default();
        book.clients.insert(mac, ReservedBinding { address, hostname: None });
        let mut since = |now: u64| {
            let actions = book.answer(&mut server, &frame, now);
            let bound = actions.into_iter().find_map(|action| match action {
                Action::Persist { change: LeaseChange::Bound(lease), .. } => Some(lease),
                _ => None,
            });
            let lease = bound.unwrap();
            assert_eq!(lease.state, LeaseState::Bound);
            book.leases.apply(&LeaseChange::Bound(lease.clone()));
            (lease.since, lease.expiry)
        };
        let (began, _) = since(1_000);
        let (renewed, ends) = since(60_000);
        assert_eq!((began, renewed), (1_000, 1_000));
        assert_eq!(since(ends + 1).0, ends + 1);
    }

    #[test]
    fn a_seed_that_fails_is_tried_again_and_then_dhcp_is_served() {
        let dir = tempfile::tempdir().unwrap();
        let (store, state) = Store::open(&dir.path().join("warren.db")).unwrap();
        let sim = Sim::new();
        let network = Id::from_random(1);
        let bridge = network.bridge();
        sim.perform(&Op::BridgeCreate { bridge: bridge.clone() }, &NoWitness).unwrap();
        let fails = AtomicBool::new(true);
        sim.refuse(move |op| {
            let seeds = matches!(op, Op::BridgeSeed { .. });
            // ENOBUFS of FreeBSD.
            (seeds && fails.swap(false, Ordering::Relaxed)).then_some(55)
        });
        let settings = Settings { roots: "/roots".into(), program: "/program".into(), jobs: 1 };
        let (_, handle) = Driver::new(store, state, Arc::new(sim.clone()), settings, |_| Box::new(Nobody));
        let mac = [2, 0, 0, 0, 0, 1];
        let config =
            ServerConfig::new(Mac(mac), Ipv4Addr::new(10, 77, 0, 2), "10.77.0.0/24".parse().unwrap());
        let line = Arc::new(Line {
            network,
            book: Arc::default(),
            stop: AtomicBool::new(false),
            last_token: AtomicU64::new(0),
            pending: Mutex::default(),
            frames: Mutex::default(),
        });
        let serving = Arc::clone(&line);
        let at = bridge.clone();
        std::thread::spawn(move || serving.serve(&handle, Server::new(config).unwrap(), &at, mac));
        let seeded = || sim.look(|machine| machine.bridges[&bridge].table.get(&mac) == Some(&DHCP_LINK));
        let served = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            seeded() && lock(&line.frames).is_some()
        });
        line.stop.store(true, Ordering::Release);
        let tries = sim.log().iter().filter(|op| matches!(op, Op::BridgeSeed { .. })).count();
        assert!(served && tries == 2, "{tries} tries");
    }
}
