//! The door of the API: who comes in, and how many at once.
//!
//! What the kernel vouches for is asked once, when a connection comes. Who may do nothing is told so here and gets no further: no
//! byte of theirs reaches the HTTP server. Everybody else has a limited number of connections, so that one user's
//! mistakes do not take the daemon's descriptors from the others.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::Sleep;

use super::rights::{Access, Peer, Rights};

/// Connections open at once, of all users.
const CONNECTIONS: usize = 512;
/// Of those, kept for the owner and root: however many others come, the machine's administrator gets in.
const RESERVED: usize = 64;
/// Of those, one user's. The owner's and root's count in the whole alone: hooks of many instances may ask at once.
const PER_USER: usize = 64;
/// Refusals being told at once; beyond that the connection is just closed.
const REFUSALS: usize = 8;
/// How long a refusal may take.
const REFUSAL: Duration = Duration::from_secs(2);
/// How long a connection may be open before its first byte. A request that came may take its time, and so may its answer.
const SILENCE: Duration = Duration::from_secs(30);
/// Pause after a failed accept: out of descriptors does not pass at once.
const AFTER_ERROR: Duration = Duration::from_millis(100);

/// A listener that lets in who may come in.
pub(super) struct Door {
    listener: UnixListener,
    rights: Arc<Rights>,
    inside: Arc<Mutex<HashMap<u32, usize>>>,
    refusals: Arc<Semaphore>,
    silence: Duration,
}

impl Door {
    pub(super) fn new(listener: UnixListener, rights: Arc<Rights>) -> Self {
        Self {
            listener,
            rights,
            inside: Arc::default(),
            refusals: Arc::new(Semaphore::new(REFUSALS)),
            silence: SILENCE,
        }
    }

    /// Tells a stranger, without waiting for it.
    fn refuse(&self, stream: UnixStream, text: &'static str) {
        let Ok(permit) = Arc::clone(&self.refusals).try_acquire_owned() else { return };
        tokio::spawn(async move {
            let _ = tokio::time::timeout(REFUSAL, tell(stream, text)).await;
            drop(permit);
        });
    }
}

const FORBIDDEN: &str = r#"403 Forbidden|{"kind":"forbidden","message":"you may not use this daemon"}"#;
const CROWDED: &str =
    r#"503 Service Unavailable|{"kind":"busy","message":"too many connections are open; try again later"}"#;

/// Answers whatever is asked. The question's head is read first: a client that is answered before it has asked sees a mistake.
async fn tell(mut stream: UnixStream, text: &'static str) -> std::io::Result<()> {
    let mut head = [0; 4096];
    let mut read = 0;
    while read < head.len() && !head[..read].windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut head[read..]).await? {
            0 => break,
            more => read += more,
        }
    }
    let (status, body) = text.split_once('|').unwrap_or((text, ""));
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

impl axum::serve::Listener for Door {
    type Io = Inside;
    type Addr = Peer;

    async fn accept(&mut self) -> (Inside, Peer) {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "a connection to the API could not be taken");
                    tokio::time::sleep(AFTER_ERROR).await;
                    continue;
                }
            };
            let peer = Peer::of(&stream, &self.rights);
            if peer.access == Access::None {
                self.refuse(stream, FORBIDDEN);
                continue;
            }
            match Place::take(&self.inside, peer.uid, peer.privileged) {
                Some(place) => {
                    let silence = Some(Box::pin(tokio::time::sleep(self.silence)));
                    return (Inside { stream, silence, _place: place }, peer);
                }
                None => self.refuse(stream, CROWDED),
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Peer> {
        Ok(Peer { uid: self.rights.owner, privileged: true, access: Access::None })
    }
}

/// A connection's place, given back when it ends.
struct Place {
    inside: Arc<Mutex<HashMap<u32, usize>>>,
    uid: u32,
}

impl Place {
    fn take(inside: &Arc<Mutex<HashMap<u32, usize>>>, uid: u32, privileged: bool) -> Option<Self> {
        let (most, limit) =
            if privileged { (CONNECTIONS, CONNECTIONS) } else { (CONNECTIONS - RESERVED, PER_USER) };
        let mut all = inside.lock().unwrap_or_else(PoisonError::into_inner);
        let full = all.values().sum::<usize>() >= most || all.get(&uid).is_some_and(|n| *n >= limit);
        if full {
            return None;
        }
        *all.entry(uid).or_default() += 1;
        Some(Self { inside: Arc::clone(inside), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = all.get_mut(&self.uid) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.uid);
            }
        }
    }
}

/// A connection that was let in.
pub(super) struct Inside {
    stream: UnixStream,
    /// Until its first byte: when it is closed.
    silence: Option<Pin<Box<Sleep>>>,
    _place: Place,
}

impl AsyncRead for Inside {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.silence = None;
        } else if let Some(silence) = &mut self.silence
            && silence.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(std::io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Inside {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::serve::Listener;
    use tokio::net::UnixStream as Client;

    #[tokio::test]
    async fn who_says_nothing_gives_the_place_back_and_who_asked_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("api.sock");
        let rights = Rights { owner: nix::unistd::geteuid().as_raw(), ..Rights::default() };
        let mut door = Door::new(UnixListener::bind(&path).unwrap(), Arc::new(rights));
        door.silence = Duration::from_secs(2);
        let _silent = Client::connect(&path).await.unwrap();
        let (mut inside, _) = door.accept().await;
        let mut byte = [0];
        let closed = tokio::time::timeout(Duration::from_secs(30), inside.read(&mut byte)).await;
        let closed = closed.expect("it keeps its place").unwrap_err();
        assert_eq!(closed.kind(), std::io::ErrorKind::TimedOut);
        let mut asking = Client::connect(&path).await.unwrap();
        let (mut inside, _) = door.accept().await;
        asking.write_all(b"G").await.unwrap();
        assert_eq!(inside.read(&mut byte).await.unwrap(), 1);
        let more = tokio::time::timeout(Duration::from_secs(4), inside.read(&mut byte)).await;
        assert!(more.is_err(), "closed although it had asked: {more:?}");
    }

    #[test]
    fn one_user_cannot_have_all_places_and_places_come_back() {
        let inside = Arc::default();
        let mine: Vec<_> = (0..PER_USER).filter_map(|_| Place::take(&inside, 7, false)).collect();
        assert_eq!(mine.len(), PER_USER);
        assert!(Place::take(&inside, 7, false).is_none(), "one more than a user may have");
        let root: Vec<_> = (0..CONNECTIONS).filter_map(|_| Place::take(&inside, 0, true)).collect();
        assert_eq!(root.len(), CONNECTIONS - PER_USER);
        assert!(Place::take(&inside, 8, false).is_none(), "one more than there are");
        drop((mine, root));
        let others: Vec<_> = (1..=8)
            .flat_map(|uid| (0..PER_USER).map(move |_| uid))
            .filter_map(|uid| Place::take(&inside, uid, false))
            .collect();
        assert_eq!(others.len(), CONNECTIONS - RESERVED);
        assert!(Place::take(&inside, 0, true).is_some(), "root's places are root's");
    }
}
