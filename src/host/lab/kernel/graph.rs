//! The userland netgraph of the lab: it lives here, so that frames flow while daemons come and go.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use warren_netgraph::userland::Graph;
use warren_netgraph::userland::pump::Pump;
use warren_netgraph::userland::server::Server;
use warren_netgraph::userland::tap::TapPorts;

use super::super::failure::Context;
use crate::host::Failure;

/// The graph, its TAP devices, and the sockets given out.
pub(super) struct Netgraph(Server);

impl Netgraph {
    /// Starts an empty one. TAP devices will appear in the calling thread's network namespace.
    pub(super) fn start() -> Result<Self, Failure> {
        let start = || -> io::Result<Self> {
            raise_descriptor_limit()?;
            let graph = Graph::new(TapPorts::new(Pump::new()?));
            let clock = graph.clone();
            std::thread::Builder::new().name("netgraph-clock".into()).spawn(move || {
                let start = Instant::now();
                loop {
                    std::thread::sleep(Duration::from_secs(1));
                    clock.tick(start.elapsed());
                }
            })?;
            Ok(Self(Server::new(graph)?))
        };
        start().doing(|| "start the userland netgraph")
    }

    /// A new socket: its control and its data half.
    pub(super) fn socket(&self) -> Result<[OwnedFd; 2], Failure> {
        self.0.open_socket().map(|(control, data)| [control, data]).doing(|| "open a netgraph socket")
    }
}

/// Each interface, jail and socket is a descriptor here; the default of 1024 is for smaller programs.
fn raise_descriptor_limit() -> io::Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(())
}
