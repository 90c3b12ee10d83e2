//! Clients that never rest: what they miss, the fabric lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::host;

/// Fetches a page again and again; counts answers and failures.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicUsize>,
    bad: Arc<AtomicUsize>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Traffic {
    pub fn new(port: u16) -> Self {
        let (stop, good, bad) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (s, g, b) = (Arc::clone(&stop), Arc::clone(&good), Arc::clone(&bad));
        let thread = std::thread::spawn(move || {
            while !s.load(Ordering::Relaxed) {
                if fetch(port) {
                    g.fetch_add(1, Ordering::Relaxed)
                } else {
                    b.fetch_add(1, Ordering::Relaxed)
                };
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { stop, good, bad, thread: Some(thread) }
    }

    pub fn good(&self) -> usize {
        self.good.load(Ordering::Relaxed)
    }

    pub fn end(mut self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        (self.good(), self.bad.load(Ordering::Relaxed))
    }
}

/// Fetches the page behind a published port once.
pub fn fetch(port: u16) -> bool {
    host::fetch(port).is_some()
}
