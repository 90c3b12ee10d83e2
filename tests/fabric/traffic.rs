//! Clients that never rest: what they miss, the fabric lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::host;

/// Fetches a page again and again.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    good: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

/// What became of all pages.
pub struct Pages {
    pub good: usize,
    /// Of each that failed when that was, how long it took and how it failed.
    pub lost: Vec<String>,
}

impl std::fmt::Display for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{} pages, {} failed", self.good + self.lost.len(), self.lost.len())?;
        self.lost.iter().take(20).try_for_each(|lost| write!(f, "\n    {lost}"))
    }
}

impl Traffic {
    pub fn new(port: u16) -> Self {
        let (stop, good) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&good));
        let thread = std::thread::spawn(move || {
            let mut lost = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let (at, began) = (SystemTime::now(), Instant::now());
                match host::fetch(port) {
                    Ok(_) => drop(counted.fetch_add(1, Ordering::Relaxed)),
                    Err(how) => {
                        // As events say it.
                        let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
                        lost.push(format!("at {at}, after {:?}: {how}", began.elapsed()));
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            lost
        });
        Self { stop, good, thread }
    }

    pub fn good(&self) -> usize {
        self.good.load(Ordering::Relaxed)
    }

    /// Fetches no more.
    pub fn end(self) -> Pages {
        self.stop.store(true, Ordering::Relaxed);
        Pages { lost: self.thread.join().unwrap(), good: self.good.load(Ordering::Relaxed) }
    }
}
