//! DNS over TCP (RFC 7766): many queries on a connection, answered as they are ready and not in order, an idle
//! limit that dripping bytes do not extend, and a limit to connections.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::metrics::Counters;
use crate::fast::{Ask, Verdict, answer, error_reply};
use crate::wire::{MAX_TCP, Question, Transport, rcode, u16_at};

/// Pause after a failed accept: out of descriptors does not pass at once.
const AFTER_ERROR: Duration = Duration::from_millis(100);
/// How much is read at a time.
const READ: usize = 4096;

pub(super) async fn serve(shared: Arc<Shared>, listener: TcpListener, stop: CancellationToken) {
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (stream, client) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "accepting a DNS connection failed");
                Counters::one(&shared.counters.receive_errors);
                tokio::time::sleep(AFTER_ERROR).await;
                continue;
            }
        };
        let Some(place) = shared.connections.take(client.ip()) else {
            Counters::one(&shared.counters.tcp_rejected);
            continue;
        };
        Counters::one(&shared.counters.tcp_accepted);
        let (task, stop) = (Arc::clone(&shared), stop.clone());
        shared.tasks.spawn(async move {
            let _place = place;
            let connection = Connection::new(&task, client.ip());
            // How a connection ends is its client's business; that it ends is ours.
            if let Some(Err(error)) = task.kill.run_until_cancelled(connection.run(stream, stop)).await {
                tracing::trace!(%error, %client, "DNS connection ended");
            }
        });
    }
}

struct Connection<'a> {
    shared: &'a Arc<Shared>,
    client: IpAddr,
    /// What has been read and not yet handled.
    input: Vec<u8>,
    /// Framed answers not yet written.
    output: Vec<u8>,
    /// Forwarded queries under way.
    forwards: usize,
    replies: mpsc::Sender<Vec<u8>>,
    done: mpsc::Receiver<Vec<u8>>,
}

impl<'a> Connection<'a> {
    fn new(shared: &'a Arc<Shared>, client: IpAddr) -> Self {
        let (replies, done) = mpsc::channel(shared.limits.pipeline.max(1));
        Connection { shared, client, input: Vec::new(), output: Vec::new(), forwards: 0, replies, done }
    }

    fn has_room(&self) -> bool {
        self.forwards < self.shared.limits.pipeline.max(1)
    }

    async fn run(mut self, mut stream: TcpStream, stop: CancellationToken) -> io::Result<()> {
        let idle = self.shared.limits.tcp_idle;
        stream.set_nodelay(true)?;
        let (mut reader, mut writer) = stream.split();
        let mut deadline = Instant::now() + idle;
        let mut open = true;
        loop {
            if self.handle_input()? {
                deadline = Instant::now() + idle;
            }
            if !self.output.is_empty() {
                timeout(idle, writer.write_all(&self.output)).await??;
                self.output.clear();
                // There may be more input, left because the output was full.
                continue;
            }
            if !open && self.forwards == 0 {
                return Ok(());
            }
            self.input.reserve(READ);
            tokio::select! {
                biased;
                () = stop.cancelled(), if open => open = false,
                Some(reply) = self.done.recv(), if self.forwards > 0 => {
                    self.forwards -= 1;
                    self.frame(|out| out.extend_from_slice(&reply));
                    deadline = Instant::now() + idle;
                }
                read = reader.read_buf(&mut self.input), if open && self.has_room() => open = read? > 0,
                () = tokio::time::sleep_until(deadline), if self.forwards == 0 => return Ok(()),
            }
        }
    }

    /// Handles the whole messages in the input, as long as there is room for what they cause. True if any was.
    fn handle_input(&mut self) -> io::Result<bool> {
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        while self.has_room() && self.output.len() < MAX_TCP {
            let Some(len) = u16_at(&input, at) else { break };
            let Some(query) = input.get(at + 2..at + 2 + usize::from(len)) else { break };
            self.handle(query)?;
            at += 2 + usize::from(len);
        }
        self.input = input;
        self.input.drain(..at);
        Ok(at > 0)
    }

    /// Appends one message to the output, behind its length.
    fn frame<T>(&mut self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let start = self.output.len();
        self.output.extend_from_slice(&[0, 0]);
        let result = write(&mut self.output);
        let len = self.output.len() - start - 2;
        if len == 0 {
            self.output.truncate(start);
        } else if let Some(slot) = self.output.get_mut(start..start + 2) {
            // No message is longer than MAX_TCP: answer() and relay() see to it.
            slot.copy_from_slice(&(len.min(MAX_TCP) as u16).to_be_bytes());
        }
        result
    }

    fn handle(&mut self, query: &[u8]) -> io::Result<()> {
        let shared = self.shared;
        Counters::one(&shared.counters.tcp_queries);
        let ask = Ask {
            transport: Transport::Tcp,
            recursion: shared.may_forward(self.client),
            rotation: shared.next_rotation(),
        };
        let verdict = self.frame(|out| answer(&shared.snapshot.load(), query, ask, out));
        match verdict {
            Verdict::Answered(outcome) => shared.counters.answered(outcome),
            Verdict::Forward(question) => self.forward(query, question, ask),
            Verdict::Drop => {
                Counters::one(&shared.counters.dropped);
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not a DNS query"));
            }
        }
        Ok(())
    }

    fn forward(&mut self, query: &[u8], question: Question, ask: Ask) {
        let Some(place) = self.shared.forwards.take(self.client) else {
            Counters::one(&self.shared.counters.forward_overload);
            self.frame(|out| error_reply(query, &question, ask, rcode::SERVFAIL, out));
            return;
        };
        self.forwards += 1;
        let (task, query, replies) = (Arc::clone(self.shared), query.to_vec(), self.replies.clone());
        let client = self.client;
        self.shared.tasks.spawn(async move {
            let _place = place;
            // Nobody listens any more when the connection is gone; that is no error.
            if let Some(reply) = task.forward(client, &query, &question, Transport::Tcp).await {
                let _ = replies.send(reply).await;
            }
        });
    }
}
