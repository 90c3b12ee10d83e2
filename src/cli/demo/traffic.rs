//! Somebody who fetches pages all the while, and notices every request that fails.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::super::Fail;

/// How long one page may take. One that is lost never comes, one on a busy machine late.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two requests.
const PAUSE: Duration = Duration::from_millis(5);
/// A page is not longer.
const LONGEST: u64 = 64 << 10;

/// Fetches `/` and gives its body.
pub fn fetch(address: SocketAddr) -> Result<String, String> {
    let go = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: demo\r\nConnection: close\r\n\r\n")?;
        let mut page = Vec::new();
        stream.take(LONGEST).read_to_end(&mut page)?;
        Ok(String::from_utf8_lossy(&page).into_owned())
    };
    let page = go().map_err(|e| format!("http://{address}/: {e}"))?;
    match page.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => Err(format!("http://{address}/: no page but `{}`", page.lines().next().unwrap_or_default())),
    }
}

/// The line of a beacon's page that begins with a word.
#[must_use]
pub fn said<'a>(page: &'a str, word: &str) -> Option<&'a str> {
    page.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))
}

/// A thread that fetches.
pub struct Traffic {
    end: Arc<AtomicBool>,
    good: Arc<AtomicU64>,
    failed: Arc<Mutex<Vec<String>>>,
    hosts: Arc<Mutex<BTreeSet<String>>>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    pub fn start(address: SocketAddr) -> Self {
        let (end, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (failed, hosts) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(BTreeSet::new())));
        let seen = (Arc::clone(&end), Arc::clone(&good), Arc::clone(&failed), Arc::clone(&hosts));
        let thread = std::thread::spawn(move || {
            let (end, good, failed, hosts) = seen;
            while !end.load(Ordering::Relaxed) {
                match fetch(address) {
                    Ok(page) => {
                        good.fetch_add(1, Ordering::Relaxed);
                        let host = said(&page, "host").unwrap_or_default().to_owned();
                        hosts.lock().unwrap_or_else(PoisonError::into_inner).insert(host);
                    }
                    Err(error) => failed.lock().unwrap_or_else(PoisonError::into_inner).push(error),
                }
                std::thread::sleep(PAUSE);
            }
        });
        Self { end, good, failed, hosts, thread: Some(thread) }
    }

    /// Pages fetched so far.
    pub fn good(&self) -> u64 {
        self.good.load(Ordering::Relaxed)
    }

    /// Ends it, and says how it went.
    pub fn stop(mut self) -> Result<String, Fail> {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| Fail::new("the thread that fetches panicked"))?;
        }
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner).len();
        let good = self.good();
        match failed.first() {
            None if good == 0 => Err(Fail::new("not one page was fetched")),
            None => Ok(format!("{good} pages fetched from {hosts} instances, none failed")),
            Some(first) => Err(Fail::new(format!(
                "{} of {} requests failed; the first: {first}",
                failed.len(),
                failed.len() as u64 + good
            ))),
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::said;

    #[test]
    fn a_page_says_who_answers() {
        let page = "name web\nhost web-k3f9q2ab\naddresses 10.77.0.7\npid 7\n";
        assert_eq!(said(page, "host"), Some("web-k3f9q2ab"));
        assert_eq!(said(page, "hos"), None);
    }
}
