//! The thread that reads TAP devices into their graph.
//!
//! It takes frames in batches, so that the graph's lock is taken once for many. A device that is removed is let go before the
//! removal returns: the thread holds the list of devices while it works on one.

use super::port::Input;
use super::tap::Tap;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

/// Frames taken from one device before the next has its turn.
const BATCH: usize = 32;
/// Bytes of a frame: the largest MTU of a TAP device, its header, two VLAN tags.
const FRAME_MAX: usize = 65_535 + 14 + 8;
/// Events taken from the kernel at once.
const EVENTS: usize = 256;
/// The key of the descriptor that ends the thread.
const STOP: u64 = u64::MAX;

/// Reads TAP devices. Clones are the same pump; its thread ends with the last of them.
#[derive(Clone)]
pub struct Pump(Arc<Owner>);

/// What clones share, and what ends the thread when they are gone.
struct Owner {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    epoll: Epoll,
    stop: EventFd,
    devices: RwLock<Devices>,
}

#[derive(Default)]
struct Devices {
    next: u64,
    by_key: HashMap<u64, (Arc<Tap>, Input)>,
}

impl Pump {
    /// Starts the thread.
    pub fn new() -> io::Result<Pump> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let stop = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        epoll.add(&stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
        let shared = Arc::new(Shared { epoll, stop, devices: RwLock::default() });
        let mine = shared.clone();
        let thread = std::thread::Builder::new().name("netgraph-pump".into()).spawn(move || mine.run())?;
        Ok(Pump(Arc::new(Owner { shared, thread: Some(thread) })))
    }

    /// Reads this device into the graph from now on. The key takes it out again.
    pub fn add(&self, tap: Arc<Tap>, input: Input) -> io::Result<u64> {
        let shared = &self.0.shared;
        let mut devices = shared.devices.write().unwrap_or_else(PoisonError::into_inner);
        let key = devices.next;
        shared.epoll.add(&*tap, EpollEvent::new(EpollFlags::EPOLLIN, key))?;
        devices.next += 1;
        devices.by_key.insert(key, (tap, input));
        Ok(key)
    }

    /// Reads a device no more, and holds it no more.
    pub fn remove(&self, key: u64) {
        let shared = &self.0.shared;
        let mut devices = shared.devices.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((tap, _)) = devices.by_key.remove(&key) {
            // It fails only for a device that the thread has given up.
            let _ = shared.epoll.delete(&*tap);
        }
    }

    /// How many devices it reads.
    pub fn len(&self) -> usize {
        self.0.shared.devices.read().unwrap_or_else(PoisonError::into_inner).by_key.len()
    }

    /// Whether it reads none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.shared.stop.write(1);
        if let Some(thread) = self.thread.take() {
            // The last clone may be one that the thread itself drops with a port.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }
}

impl Shared {
    fn run(&self) {
        let mut events = [EpollEvent::empty(); EVENTS];
        let mut buffers = vec![0; BATCH * FRAME_MAX];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(_) => return,
            };
            for event in events.iter().take(count) {
                if event.data() == STOP {
                    return;
                }
                self.read(event.data(), &mut buffers);
            }
        }
    }

    fn read(&self, key: u64, buffers: &mut [u8]) {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        let Some((tap, input)) = devices.by_key.get(&key) else { return };
        let mut lens = [0; BATCH];
        let mut count = 0;
        for (buffer, len) in buffers.chunks_exact_mut(FRAME_MAX).zip(&mut lens) {
            match tap.receive(buffer) {
                Ok(0) => break,
                Ok(got) => *len = got,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => {
                    // A device that cannot be read would be ready for ever.
                    let _ = self.epoll.delete(&**tap);
                    break;
                }
            }
            count += 1;
        }
        if count > 0 {
            let mut frames: [&[u8]; BATCH] = [&[]; BATCH];
            for ((frame, buffer), len) in frames.iter_mut().zip(buffers.chunks_exact(FRAME_MAX)).zip(lens) {
                *frame = buffer.get(..len).unwrap_or_default();
            }
            input.frames(frames.get(..count).unwrap_or_default());
        }
    }
}
