//! A resolver that never rests: what it misses, the name server lost.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// After which a resolver asks again.
const AGAIN: Duration = Duration::from_secs(2);
/// Within which a question that is not lost is answered, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the sleeper sleeps.
const NAP: Duration = Duration::from_millis(10);

/// Asks for a name again and again, one question at a time: an answer that comes late counts with its lateness. What a daemon
/// had taken out of its socket dies with it when it is killed, so a question without an answer is asked once more, as every
/// resolver does; without one even so it is lost. A wrong answer is lost at once: nobody asks again after one.
pub struct Names {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Answers>,
    sleeper: std::thread::JoinHandle<Duration>,
}

/// What became of all questions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answers {
    pub asked: usize,
    /// How many were answered only when they were asked once more.
    pub again: usize,
    /// How many had no answer, or a wrong one.
    pub lost: usize,
    /// How late the latest was that needed to be asked once.
    pub latest: Duration,
    /// For how long at most the machine let somebody wait meanwhile who asked nobody for anything.
    pub stood_still: Duration,
}

impl Names {
    /// Of a server on the machine's loopback.
    pub fn new(server: SocketAddr, name: &str) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let (stopped, query) = (Arc::clone(&stop), question(name));
        let thread = std::thread::spawn(move || {
            let mut answers = Answers::default();
            while !stopped.load(Ordering::Relaxed) {
                answers.asked += 1;
                let began = Instant::now();
                let first = Question::ask(server, &query);
                match first.answer(AGAIN) {
                    Some(true) => answers.latest = answers.latest.max(began.elapsed()),
                    None if Question::ask(server, &query).answer(PATIENCE) == Some(true) => {
                        // Late is not lost.
                        match first.answer(PATIENCE) {
                            Some(true) => answers.latest = answers.latest.max(began.elapsed()),
                            _ => answers.again += 1,
                        }
                    }
                    _ => answers.lost += 1,
                }
                std::thread::sleep(NAP);
            }
            answers
        });
        let stopped = Arc::clone(&stop);
        let sleeper = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                std::thread::sleep(NAP);
                longest = longest.max(began.elapsed().saturating_sub(NAP));
            }
            longest
        });
        Self { stop, thread, sleeper }
    }

    /// Asks no more.
    pub fn end(self) -> Answers {
        self.stop.store(true, Ordering::Relaxed);
        Answers { stood_still: self.sleeper.join().unwrap(), ..self.thread.join().unwrap() }
    }
}

fn question(name: &str) -> Vec<u8> {
    let mut query = vec![0x47, 0x11, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

/// One that was sent.
struct Question(UdpSocket);

impl Question {
    fn ask(server: SocketAddr, query: &[u8]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server).unwrap();
        // That nobody listens is seen by the want of an answer.
        let _ = socket.send(query);
        Self(socket)
    }

    /// Whether the name has an address; none without an answer within this time.
    fn answer(&self, patience: Duration) -> Option<bool> {
        let mut answer = [0; 1500];
        self.0.set_read_timeout(Some(patience)).unwrap();
        let length = self.0.recv(&mut answer).ok()?;
        Some(length > 12 && answer[3] & 0xf == 0 && answer[7] > 0)
    }
}
