//! The graph of each link, as sequences of netgraph requests: `eiface.ether — ng_bpf — bridge.linkN` (DESIGN.md, "Fabric").
//!
//! The same code drives FreeBSD's kernel and the lab's userland netgraph; which of them is behind a [`Handle`] it cannot tell. An
//! eiface is born on an idle, persistent *nursery* hub, so that creation never runs in the queue thread of a busy bridge (facts
//! A.5), and the nursery's hook bears the name it is to get: whatever a crash leaves is found by that hook or by its name.
//! Undoing goes by names only and takes any half-made state.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use warren_netgraph::codec::bridge::{Config, LinkNumber};
use warren_netgraph::codec::generic::NodeInfo;
use warren_netgraph::data::DataSocket;
use warren_netgraph::{Errno, Error, Handle, HookName, Mac, NodeId, NodeRef, Transport, guard};

use super::{Failure, Frames, Guard};
use crate::ids::Id;

/// The hub where eifaces are born.
const NURSERY: &str = "warren-nursery";
/// The hooks of the filter: towards the interface and towards the bridge.
const FILTER_IN: &str = "jail";
const FILTER_OUT: &str = "net";
/// The largest frame: ng_eiface's largest MTU with its header.
const LARGEST_FRAME: usize = 9018 + 18;

/// The bridge's hook of a real interface. `uplink1` is taken, see [`Graph::bridge_create`].
const UPLINK: &str = "uplink2";
/// The bridge's link of the host's own stack, where a real interface was bridged: what the card receives no longer reaches the
/// host by itself.
const HOST_LINK: u32 = 3;

/// How a real interface is set up for netgraph: ng_ether(4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Uplink {
    /// Whether its node made it promiscuous.
    pub promisc: bool,
    /// Whether frames sent by its node get its own source address.
    pub autosrc: bool,
}

/// What is done to interfaces by the means of each system.
pub trait Interfaces {
    /// Renames an interface of the host.
    fn rename(&self, from: &str, to: &str) -> Result<(), Failure>;
    /// Sets the size of an interface's packets.
    fn set_mtu(&self, interface: &str, mtu: u16) -> Result<(), Failure>;
}

/// Makes and removes nodes. Each thread that works has a control socket to itself (facts A.3: one request in flight each); idle
/// ones are kept.
pub struct Graph<T> {
    open: Box<dyn Fn() -> Result<T, Failure> + Send + Sync>,
    idle: Mutex<Vec<Handle<T>>>,
}

/// The name of the filter that stands at an eiface: `f<id>` for `w<id>`.
pub fn filter_of(node: &str) -> String {
    format!("f{}", node.get(1..).unwrap_or_default())
}

impl<T: Transport> Graph<T> {
    /// Works over control sockets that `open` gives. They are made as they are needed.
    pub fn new(open: impl Fn() -> Result<T, Failure> + Send + Sync + 'static) -> Self {
        Self { open: Box::new(open), idle: Mutex::default() }
    }

    /// Does something over a control socket. One that failed otherwise than by a refusal is not used again.
    fn with<R>(&self, what: &str, work: impl FnOnce(&Handle<T>) -> Result<R, Error>) -> Result<R, Failure> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let handle = match idle {
            Some(handle) => handle,
            None => Handle::new((self.open)()?),
        };
        let done = work(&handle);
        if matches!(&done, Ok(_) | Err(Error::Refused { .. } | Error::Name(_))) {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(handle);
        }
        done.map_err(|error| failure(what, &error))
    }

    /// Makes a bridge: named before it is persistent, so that a crash in between leaves nothing nameless.
    ///
    /// Its first hook is an uplink, which makes it flood no unknown unicast between links for as long as it has any hook; the uplink
    /// stays, and ends at a hub that has no other hook. Its table never forgets and never moves an address.
    pub fn bridge_create(&self, bridge: &str) -> Result<NodeId, Failure> {
        self.with(&format!("make the bridge {bridge}"), |handle| {
            if find(handle, bridge)?.is_some() {
                return Err(taken(bridge, "mkpeer"));
            }
            let own = handle.node(NodeRef::Own);
            own.mkpeer("bridge", bridge, "uplink2")?;
            let made = (|| {
                let id = own.peer(bridge)?.id;
                handle.node(id).set_name(bridge)?;
                handle.node(id).mkpeer("hub", "uplink1", "bridge")?;
                handle.bridge(id).set_config(Config {
                    loop_timeout: 0,
                    max_staleness: u32::MAX,
                    min_stable_age: 0x10000,
                    ..Config::default()
                })?;
                handle.bridge(id).set_persistent()?;
                Ok(id)
            })();
            // The socket lives on in the pool: without this the bridge would hang on it.
            own.rmhook(bridge)?;
            made
        })
    }

    /// Shuts a bridge down.
    pub fn bridge_destroy(&self, bridge: &str) -> Result<(), Failure> {
        self.with(&format!("shut the bridge {bridge} down"), |handle| shutdown(handle, bridge, "bridge"))
    }

    /// Puts an address into a bridge's table at one of its links.
    pub fn seed(&self, bridge: &str, link: u32, mac: [u8; 6]) -> Result<(), Failure> {
        self.with(&format!("seed the table of the bridge {bridge}"), |handle| {
            handle.bridge(NodeRef::Name(bridge)).move_host(Mac(mac), &LinkNumber::Link(link).to_string())
        })
    }

    /// Makes an eiface on the nursery, and names node and interface.
    pub fn eiface_create(
        &self,
        node: &str,
        mac: [u8; 6],
        mtu: u16,
        interfaces: &impl Interfaces,
    ) -> Result<NodeId, Failure> {
        let (id, interface) = self.with(&format!("make the interface {node}"), |handle| {
            if find(handle, node)?.is_some() {
                return Err(taken(node, "mkpeer"));
            }
            let nursery = nursery(handle)?;
            handle.node(nursery).mkpeer("eiface", node, "ether")?;
            let id = handle.node(nursery).peer(node)?.id;
            let interface = handle.eiface(id).ifname()?;
            handle.eiface(id).set_mac(Mac(mac))?;
            // The node first: with ng_ether loaded the interface's own node follows its name, unless that is taken.
            handle.node(id).set_name(node)?;
            Ok((id, interface))
        })?;
        interfaces.rename(&interface, node)?;
        interfaces.set_mtu(node, mtu)?;
        Ok(id)
    }

    /// Shuts an eiface down, named or still nameless on the nursery.
    pub fn eiface_destroy(&self, node: &str) -> Result<(), Failure> {
        self.with(&format!("shut the interface {node} down"), |handle| {
            if let Some(nursery) = find(handle, NURSERY)? {
                if let Some(newborn) = absent(handle.node(nursery.id).peer(node))?
                    && newborn.node_type.as_bytes() == b"eiface"
                {
                    absent(handle.node(newborn.id).shutdown())?;
                }
                handle.node(nursery.id).rmhook(node)?;
            }
            shutdown(handle, node, "eiface")
        })
    }

    /// Connects an eiface to a link of a bridge, through a filter that drops everything if `guarded`.
    pub fn link_connect(&self, node: &str, bridge: &str, link: u32, guarded: bool) -> Result<(), Failure> {
        self.with(&format!("connect {node} to the bridge {bridge}"), |handle| {
            let need = |name: &str| find(handle, name)?.ok_or_else(|| gone(name, "connect"));
            let (eiface, to) = (need(node)?.id, need(bridge)?.id);
            let hook = LinkNumber::Link(link).to_string();
            let nursery = nursery(handle)?;
            if !guarded {
                handle.node(nursery).rmhook(node)?;
                return handle.node(eiface).connect(to, "ether", &hook);
            }
            let filter = filter_of(node);
            handle.node(nursery).mkpeer("bpf", &filter, "nursery")?;
            let id = handle.node(nursery).peer(&filter)?.id;
            handle.node(id).set_name(&filter)?;
            handle.node(nursery).rmhook(node)?;
            handle.node(id).connect(eiface, FILTER_IN, "ether")?;
            // A new hook of ng_bpf drops what comes in, so that nothing passes before link_open.
            handle.node(id).connect(to, FILTER_OUT, &hook)?;
            handle.node(nursery).rmhook(&filter)
        })
    }

    /// Takes a link off its bridge and removes its filter. A hook that by now belongs to another node is left alone.
    pub fn link_disconnect(&self, node: &str, bridge: &str, link: u32) -> Result<(), Failure> {
        let filter = filter_of(node);
        self.with(&format!("disconnect {node} from the bridge {bridge}"), |handle| {
            let hook = LinkNumber::Link(link).to_string();
            if let Some(bridge) = find(handle, bridge)?
                && let Some(peer) = absent(handle.node(bridge.id).peer(&hook))?
                && [node.as_bytes(), filter.as_bytes()].contains(&peer.name.as_bytes())
            {
                handle.node(bridge.id).rmhook(&hook)?;
            }
            if let Some(nursery) = find(handle, NURSERY)? {
                handle.node(nursery.id).rmhook(&filter)?;
            }
            shutdown(handle, &filter, "bpf")
        })
    }

    /// Opens a connected link: the filter's programs, then the table.
    pub fn link_open(
        &self,
        node: &str,
        bridge: &str,
        link: u32,
        guard: Option<&Guard>,
        mac: [u8; 6],
    ) -> Result<(), Failure> {
        let what = format!("open the link of {node} to the bridge {bridge}");
        let program = match guard {
            None => None,
            Some(guard) => {
                let (mut v4, mut v6) = (Vec::new(), Vec::new());
                for address in &guard.addresses {
                    match address {
                        IpAddr::V4(address) => v4.push(*address),
                        IpAddr::V6(address) => v6.push(*address),
                    }
                }
                // Asking for an address is no claim to one; whether a server answers is the fabric's decision.
                let guard = guard::Guard { mac: Mac(guard.mac), v4, v6, allow_dhcp: true };
                Some(guard.program().map_err(|error| Failure::new(format!("{what}: {error}")))?)
            }
        };
        self.with(&what, |handle| {
            if let Some(program) = &program {
                let filter = filter_of(node);
                let filter = handle.bpf(NodeRef::Name(&filter));
                filter.set_program(FILTER_IN, FILTER_OUT, "", program)?;
                filter.set_program(FILTER_OUT, FILTER_IN, "", &guard::open())?;
            }
            handle.bridge(NodeRef::Name(bridge)).move_host(Mac(mac), &LinkNumber::Link(link).to_string())
        })
    }

    /// What the interface of an eiface is called at present; `None` if there is no such node.
    pub fn eiface_interface(&self, node: &str) -> Result<Option<String>, Failure> {
        self.with(&format!("look at the interface {node}"), |handle| match find(handle, node)? {
            Some(seen) if seen.node_type.as_bytes() == b"eiface" => absent(handle.eiface(seen.id).ifname()),
            _ => Ok(None),
        })
    }

    /// How a real interface is set up for netgraph.
    pub fn uplink_state(&self, interface: &str) -> Result<Uplink, Failure> {
        self.with(&format!("look at the interface {interface}"), |handle| {
            let ether = ether(handle, interface)?;
            Ok(Uplink { promisc: handle.ether(ether).promisc()?, autosrc: handle.ether(ether).autosrc()? })
        })
    }

    /// Bridges a real interface: the wire by its lower hook, the host's own stack by its upper one, promiscuous, with the senders'
    /// own addresses.
    ///
    /// The host comes first, and its address is in the table before the wire is there: its connections lose no more than what
    /// arrives between two requests.
    pub fn uplink_connect(&self, bridge: &str, interface: &str) -> Result<(), Failure> {
        self.with(&format!("connect {interface} to the bridge {bridge}"), |handle| {
            let ether = ether(handle, interface)?;
            let to = find(handle, bridge)?.ok_or_else(|| gone(bridge, "connect"))?.id;
            let host = LinkNumber::Link(HOST_LINK).to_string();
            let mac = handle.ether(ether).mac()?;
            handle.ether(ether).set_promisc(true)?;
            handle.ether(ether).set_autosrc(false)?;
            handle.node(ether).connect(to, "upper", &host)?;
            handle.bridge(to).move_host(mac, &host)?;
            handle.node(ether).connect(to, "lower", UPLINK)
        })
    }

    /// Takes a real interface off its bridge and puts it back as it was. A hook that by now belongs to another node is left alone.
    pub fn uplink_disconnect(&self, bridge: &str, interface: &str, before: Uplink) -> Result<(), Failure> {
        self.with(&format!("disconnect {interface} from the bridge {bridge}"), |handle| {
            if let Some(bridge) = find(handle, bridge)? {
                // The wire first: what comes in reaches the host again from then on.
                for hook in [UPLINK, &LinkNumber::Link(HOST_LINK).to_string()] {
                    // A node that lost its last hook is made anew, so it is looked for each time.
                    let ether = self::ether(handle, interface)?;
                    if absent(handle.node(bridge.id).peer(hook))?.is_some_and(|peer| peer.id == ether) {
                        handle.node(bridge.id).rmhook(hook)?;
                    }
                }
            }
            // Made anew, with another id and the defaults (ng_ether_shutdown()); for a moment there is none.
            let ether = patiently(|| self::ether(handle, interface))?;
            handle.ether(ether).set_promisc(before.promisc)?;
            handle.ether(ether).set_autosrc(before.autosrc)
        })
    }

    /// The named nodes that are ours, with their types, and those of them that lead nowhere. The nursery belongs to nobody and is not
    /// among them.
    pub fn nodes(&self) -> Result<(BTreeMap<String, String>, BTreeSet<String>), Failure> {
        let (mut nodes, mut loose) = (BTreeMap::new(), BTreeSet::new());
        for node in self.with("list the netgraph nodes", Handle::names)? {
            let (name, kind) = (node.name.to_string(), node.node_type.to_string());
            if Id::of_object(&name).is_none() {
                continue;
            }
            // A filter has its interface on one side and the bridge on the other.
            if node.hooks < u32::from(kind == "eiface") + 2 * u32::from(kind == "bpf") {
                loose.insert(name.clone());
            }
            nodes.insert(name, kind);
        }
        Ok((nodes, loose))
    }
}

/// Makes a socket pair of a control and a data half into a hook of a bridge that carries whole frames.
pub fn frames<T: Transport + 'static, D: DataSocket + 'static>(
    control: T,
    data: D,
    bridge: &str,
    link: u32,
) -> Result<Box<dyn Frames>, Failure> {
    let hook = LinkNumber::Link(link).to_string();
    let handle = Handle::new(control);
    handle
        .node(NodeRef::Own)
        .connect(NodeRef::Name(bridge), &hook, &hook)
        .map_err(|error| failure(&format!("connect a socket to {bridge}.{hook}"), &error))?;
    Ok(Box::new(Hook { data, hook: HookName::from_wire(hook.as_bytes()), _handle: Mutex::new(handle) }))
}

/// A hook of a bridge in our hands. The node ends with its control socket.
struct Hook<T, D> {
    data: D,
    hook: HookName,
    _handle: Mutex<Handle<T>>,
}

impl<T: Transport, D: DataSocket> Frames for Hook<T, D> {
    fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<Option<()>> {
        buffer.resize(LARGEST_FRAME, 0);
        match self.data.receive(buffer, Duration::from_secs(1)) {
            Ok(Some((_, length))) => {
                buffer.truncate(length);
                Ok(Some(()))
            }
            Ok(None) => {
                buffer.clear();
                Ok(None)
            }
            Err(error) => {
                buffer.clear();
                Err(error)
            }
        }
    }

    fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.data.send(&self.hook, frame)
    }
}

/// The node of a name.
fn find<T: Transport>(handle: &Handle<T>, name: &str) -> Result<Option<NodeInfo>, Error> {
    absent(handle.node(NodeRef::Name(name)).info())
}

/// The node of a real interface. Its name is the interface's, with `_` for `.` and `:` (ng_ether(4)).
fn ether<T: Transport>(handle: &Handle<T>, interface: &str) -> Result<NodeId, Error> {
    let name = interface.replace(['.', ':'], "_");
    match find(handle, &name)? {
        Some(node) if node.node_type.as_bytes() == b"ether" => Ok(node.id),
        _ => Err(gone(&name, "find the ether node")),
    }
}

/// Tries again for a second what finds nothing yet.
fn patiently<R>(mut find: impl FnMut() -> Result<R, Error>) -> Result<R, Error> {
    for _ in 0..100 {
        match find() {
            Err(error) if error.errno() == Some(Errno::ENOENT) => {
                std::thread::sleep(Duration::from_millis(10))
            }
            other => return other,
        }
    }
    find()
}

/// What is not there is nothing.
fn absent<R>(result: Result<R, Error>) -> Result<Option<R>, Error> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Shuts the node of a name and type down. Another type under the name is not ours: ng_ether names its nodes like interfaces.
fn shutdown<T: Transport>(handle: &Handle<T>, name: &str, kind: &str) -> Result<(), Error> {
    match find(handle, name)? {
        Some(node) if node.node_type.as_bytes() == kind.as_bytes() => {
            absent(handle.node(node.id).shutdown()).map(|_| ())
        }
        _ => Ok(()),
    }
}

/// The nursery, made if it is not there. Two who make it at once: the second finds the name taken and takes the first's.
fn nursery<T: Transport>(handle: &Handle<T>) -> Result<NodeId, Error> {
    if let Some(node) = find(handle, NURSERY)? {
        return Ok(node.id);
    }
    let own = handle.node(NodeRef::Own);
    own.mkpeer("hub", NURSERY, "first")?;
    let made = (|| {
        let id = own.peer(NURSERY)?.id;
        handle.node(id).set_name(NURSERY)?;
        handle.hub(id).set_persistent()?;
        Ok(id)
    })();
    own.rmhook(NURSERY)?;
    match made {
        Err(Error::Refused { errno: Errno::EADDRINUSE, .. }) => {
            find(handle, NURSERY)?.map(|node| node.id).ok_or_else(|| gone(NURSERY, "name"))
        }
        made => made,
    }
}

fn taken(node: &str, operation: &'static str) -> Error {
    Error::Refused { node: node.to_owned(), operation, errno: Errno::EEXIST }
}

fn gone(node: &str, operation: &'static str) -> Error {
    Error::Refused { node: node.to_owned(), operation, errno: Errno::ENOENT }
}

/// The host's word for it, in the host's numbering.
fn failure(what: &str, error: &Error) -> Failure {
    let errno = error.errno().and_then(|errno| io::Error::from(errno).raw_os_error());
    Failure { errno, ..Failure::new(format!("{what}: {error}")) }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::cell::RefCell;

    use warren_netgraph::transport::memory::MemoryTransport;
    use warren_netgraph::userland::{self, Detail, MemoryPorts};

    use super::*;

    /// Interfaces that take note.
    #[derive(Default)]
    struct Noted(RefCell<Vec<String>>);

    impl Interfaces for Noted {
        fn rename(&self, from: &str, to: &str) -> Result<(), Failure> {
            self.0.borrow_mut().push(format!("{from} -> {to}"));
            Ok(())
        }
        fn set_mtu(&self, interface: &str, mtu: u16) -> Result<(), Failure> {
            if mtu == 0 {
                return Err(Failure::new("no such MTU"));
            }
            self.0.borrow_mut().push(format!("{interface}: {mtu}"));
            Ok(())
        }
    }

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn graph() -> (userland::Graph, Graph<MemoryTransport>) {
        let kernel = userland::Graph::new(MemoryPorts::default());
        let sockets = kernel.clone();
        (kernel, Graph::new(move || Ok(sockets.transport())))
    }

    fn names() -> (Id, String, String) {
        let id = Id::from_random(0x1234_5678_9abc);
        (id, id.node(), Id::from_random(77).bridge())
    }

    #[test]
    fn a_link_is_made_closed_then_opened_then_gone() {
        let (kernel, graph) = graph();
        let (id, node, bridge) = names();
        let noted = Noted::default();
        graph.bridge_create(&bridge).unwrap();
        graph.eiface_create(&node, MAC, 1500, &noted).unwrap();
        assert_eq!(*noted.0.borrow(), [format!("ngeth0 -> {node}"), format!("{node}: 1500")]);
        graph.link_connect(&node, &bridge, 12, true).unwrap();
        let filter = format!("f{id}");
        let (seen, loose) = graph.nodes().unwrap();
        assert_eq!(seen.keys().collect::<Vec<_>>(), [&bridge, &filter, &node]);
        assert!(loose.is_empty(), "{loose:?}");
        let guard =
            Guard { mac: MAC, addresses: vec!["10.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()] };
        graph.link_open(&node, &bridge, 12, Some(&guard), MAC).unwrap();
        let snapshot = kernel.snapshot();
        let Detail::Bridge { hosts, .. } = &snapshot.named(&bridge).unwrap().detail else {
            panic!("no bridge")
        };
        assert_eq!(hosts.len(), 1);
        // Somebody cuts it off the bridge.
        Handle::new(kernel.transport()).node(NodeRef::Name(&bridge)).rmhook("link12").unwrap();
        assert_eq!(graph.nodes().unwrap().1.iter().collect::<Vec<_>>(), [&filter]);
        for _ in 0..2 {
            graph.link_disconnect(&node, &bridge, 12).unwrap();
            graph.eiface_destroy(&node).unwrap();
            graph.bridge_destroy(&bridge).unwrap();
        }
        assert!(graph.nodes().unwrap().0.is_empty());
        // Beside the sockets of the pool only the nursery is left: no nameless node either.
        let left: Vec<_> =
            kernel.snapshot().nodes.into_iter().filter(|node| node.detail != Detail::Socket).collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn what_a_crash_leaves_at_the_nursery_is_found_by_its_hook() {
        let (kernel, graph) = graph();
        let (id, node, bridge) = names();
        let handle = Handle::new(kernel.transport());
        let nursery = nursery(&handle).unwrap();
        handle.node(nursery).mkpeer("eiface", &node, "ether").unwrap();
        handle.node(nursery).mkpeer("bpf", &format!("f{id}"), "nursery").unwrap();
        drop(handle);
        graph.link_disconnect(&node, &bridge, 3).unwrap();
        graph.eiface_destroy(&node).unwrap();
        assert_eq!(kernel.snapshot().nodes.iter().filter(|node| node.detail != Detail::Socket).count(), 1);
    }

    #[test]
    fn a_hook_that_now_is_anothers_is_left_alone() {
        let (_kernel, graph) = graph();
        let (_, node, bridge) = names();
        let other = Id::from_random(4711).node();
        graph.bridge_create(&bridge).unwrap();
        graph.eiface_create(&other, MAC, 1500, &Noted::default()).unwrap();
        graph.link_connect(&other, &bridge, 5, true).unwrap();
        graph.link_disconnect(&node, &bridge, 5).unwrap();
        graph.link_open(&other, &bridge, 5, None, MAC).unwrap();
    }

    #[test]
    fn a_name_that_is_taken_is_said_to_be() {
        let (_kernel, graph) = graph();
        let (_, node, bridge) = names();
        graph.bridge_create(&bridge).unwrap();
        assert_eq!(graph.bridge_create(&bridge).unwrap_err().errno, Some(17));
        // Made half-way: the undoing finds it.
        assert!(graph.eiface_create(&node, MAC, 0, &Noted::default()).is_err());
        assert!(graph.nodes().unwrap().0.contains_key(&node));
        graph.eiface_destroy(&node).unwrap();
        assert!(!graph.nodes().unwrap().0.contains_key(&node));
    }
}
