//! Runs the engine: one thread that takes events in, commits, and hands effects to a pool.
//!
//! Events that arrive while a commit is under way share the next one, so that many instances cost few syncs. No lock is
//! held across an effect: the engine belongs to its thread, and everybody else sends it messages.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::sync::{broadcast, oneshot};

use super::clock::{now, wall};
use crate::host::{Exit, Failure, Host, JobState, Op, Process, Reply, Witness};
use crate::ids::Id;
use crate::lifecycle::engine::{
    Client, Command, Effect, Engine, Event, NameChange, Output, Refusal, Settings, Ticket,
};
use crate::store::db::{Event as Told, Stamp};
use crate::store::{State, Store};

/// How many events share one commit at most.
const BATCH: usize = 512;
/// How often a job that is waited for is looked at.
const JOB_POLL: Duration = Duration::from_millis(50);
/// For how long a keeper that cannot be asked is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// How long after a commit that failed, or a thread that could not be had, the next attempt is made: a full disk may be emptied.
pub(super) const COMMIT_RETRY: Duration = Duration::from_millis(500);
/// How long until another keeper is started in the place of one that died.
const KEEPER_RETRY: Duration = Duration::from_millis(500);

/// What serves names and leases; the driver tells it of every change.
pub trait Runtime: Send {
    /// The zone changes. `state` is the fold the change came from.
    fn name(&mut self, change: NameChange, state: &State);
    /// A client of a network's DHCP server appears, changes or goes.
    fn reserve(&mut self, network: Id, mac: crate::host::Mac, client: Option<Client>);
    /// A lease is on disk: its acknowledgement may go out.
    fn acknowledge(&mut self, network: Id, token: u64);
    /// A network is up: serve what of it is not served yet.
    fn serve(&mut self, network: Id, state: &State) -> Result<(), Failure>;
    /// A network goes down: serve it no longer.
    fn unserve(&mut self, network: Id);
    /// Another keeper is in the place of one that died: what the last one held is to be left with it.
    fn keeper_anew(&mut self);
}

/// A question about the present.
type Query = Box<dyn FnOnce(&Engine, &Store) + Send>;

enum Message {
    Event(Event),
    Ask(Command, oneshot::Sender<Result<Value, Refusal>>),
    Query(Query),
    KeeperAnew,
    End,
}

/// How everybody else speaks with the engine.
#[derive(Clone)]
pub struct Handle {
    messages: Sender<Message>,
    told: broadcast::Sender<Arc<Told>>,
    exits: broadcast::Sender<Exit>,
    host: Arc<dyn Host>,
    /// Whether the end was asked for: a commit that waits for room on the disk waits no longer.
    ending: Arc<AtomicBool>,
}

/// The engine's thread is gone: the daemon is ending.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the daemon is ending")]
pub struct Ending;

impl Handle {
    /// Asks for something. The answer comes after it is on disk.
    ///
    /// # Errors
    /// When the daemon is ending.
    pub async fn ask(&self, command: Command) -> Result<Result<Value, Refusal>, Ending> {
        let (sender, receiver) = oneshot::channel();
        self.messages.send(Message::Ask(command, sender)).map_err(|_| Ending)?;
        receiver.await.map_err(|_| Ending)
    }

    /// Looks at the present. Everything it sees is committed.
    ///
    /// # Errors
    /// When the daemon is ending.
    pub async fn query<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Engine, &Store) -> T + Send + 'static,
    ) -> Result<T, Ending> {
        let (sender, receiver) = oneshot::channel();
        let query = move |engine: &Engine, store: &Store| drop(sender.send(look(engine, store)));
        self.messages.send(Message::Query(Box::new(query))).map_err(|_| Ending)?;
        receiver.await.map_err(|_| Ending)
    }

    /// Tells the engine of something that happened.
    pub fn tell(&self, event: Event) {
        // With the engine gone nobody needs to know.
        let _ = self.messages.send(Message::Event(event));
    }

    /// Follows the events from now on.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<Arc<Told>> {
        self.told.subscribe()
    }

    /// Follows the ends of spawned jobs from now on.
    #[must_use]
    pub fn exits(&self) -> broadcast::Receiver<Exit> {
        self.exits.subscribe()
    }

    /// The machine.
    #[must_use]
    pub fn host(&self) -> Arc<dyn Host> {
        Arc::clone(&self.host)
    }

    /// Ends the engine's thread. What runs goes on running.
    pub fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
        let _ = self.messages.send(Message::End);
    }
}

/// A random number: the one place where chance comes in.
fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| now().wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Everything the engine's thread owns.
pub struct Driver {
    engine: Engine,
    store: Store,
    runtime: Box<dyn Runtime>,
    receiver: Receiver<Message>,
    handle: Handle,
    answers: HashMap<u64, oneshot::Sender<Result<Value, Refusal>>>,
    last_token: u64,
    gates: Gates,
    pool: Pool,
    wake: Option<u64>,
}

/// Hooks that wait until their process is written down.
type Gates = Arc<Mutex<HashMap<Ticket, Sender<()>>>>;

impl Driver {
    /// A driver for what the store holds, and the handle to speak with it. `runtime` gets the handle to tell of leases.
    pub fn new(
        store: Store,
        state: State,
        host: Arc<dyn Host>,
        settings: Settings,
        runtime: impl FnOnce(&Handle) -> Box<dyn Runtime>,
    ) -> (Self, Handle) {
        let (messages, receiver) = channel();
        let (told, _) = broadcast::channel(4096);
        let (exits, _) = broadcast::channel(1024);
        let handle = Handle { messages, told, exits, host, ending: Arc::default() };
        let driver = Self {
            engine: Engine::new(state, settings),
            store,
            runtime: runtime(&handle),
            receiver,
            handle: handle.clone(),
            answers: HashMap::new(),
            last_token: 0,
            gates: Gates::default(),
            pool: Pool::default(),
            wake: None,
        };
        (driver, handle)
    }

    /// Takes up what was left, then runs until [`Handle::end`].
    pub fn run(mut self) {
        let host = self.handle.host();
        let mut out = self.engine.recover(&host.boot_id(), now(), random());
        let remembered = Event::Remembered(host.ended_jobs());
        merge(&mut out, self.engine.handle(remembered, now(), random()));
        if !self.carry_out(out) {
            return;
        }
        self.listen_for_exits();
        self.listen_for_losses();
        while self.turn() {}
    }

    fn listen_for_exits(&self) {
        let handle = self.handle.clone();
        std::thread::spawn(move || {
            let mut exits = handle.host.exits();
            loop {
                for exit in exits {
                    let _ = handle.exits.send(exit.clone());
                    handle.tell(Event::Exited(exit));
                }
                if handle.ending.load(Ordering::Relaxed) {
                    return;
                }
                // What it saw last is lost; the looks at the machine find the main processes it does not know.
                tracing::error!("the keeper is gone: what runs goes on, and another one is started");
                std::thread::sleep(KEEPER_RETRY);
                exits = handle.host.exits();
                let _ = handle.messages.send(Message::KeeperAnew);
            }
        });
    }

    fn listen_for_losses(&self) {
        let Some(lost) = self.handle.host.lost() else { return };
        let handle = self.handle.clone();
        std::thread::spawn(move || {
            for jail in lost {
                handle.tell(Event::Lost(jail));
            }
        });
    }

    /// One round: what has arrived, one commit, the effects. False when the end was asked for.
    fn turn(&mut self) -> bool {
        let first = match self.wake {
            Some(at) => match self.receiver.recv_timeout(Duration::from_millis(at.saturating_sub(now()))) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => Message::Event(Event::Tick),
                Err(RecvTimeoutError::Disconnected) => return false,
            },
            None => match self.receiver.recv() {
                Ok(message) => message,
                Err(_) => return false,
            },
        };
        let mut out = Output::default();
        let mut next = Some(first);
        let mut taken = 0;
        let mut query = None;
        while let Some(message) = next.take() {
            match message {
                Message::Event(event) => merge(&mut out, self.engine.handle(event, now(), random())),
                Message::Ask(command, answer) => {
                    self.last_token += 1;
                    self.answers.insert(self.last_token, answer);
                    let ask = Event::Ask(self.last_token, command);
                    merge(&mut out, self.engine.handle(ask, now(), random()));
                }
                // Sees what is committed, so the commit comes first.
                Message::Query(look) => {
                    query = Some(look);
                    break;
                }
                Message::KeeperAnew => self.runtime.keeper_anew(),
                Message::End => {
                    self.carry_out(out);
                    return false;
                }
            }
            taken += 1;
            if taken < BATCH {
                next = self.receiver.try_recv().ok();
            }
        }
        if taken > 0 && !self.carry_out(out) {
            return false;
        }
        if let Some(look) = query {
            look(&self.engine, &self.store);
        }
        true
    }

    /// Commits, and has the effects after. False when it could not be committed before the end was asked for: then nothing of it
    /// has happened, and what is in memory is not to be gone by.
    fn carry_out(&mut self, out: Output) -> bool {
        self.wake = out.wake;
        let Some(told) = self.commit(&out) else { return false };
        if !out.records.is_empty()
            && let Err(error) = self.store.shorten(now(), &self.engine.state)
        {
            tracing::warn!(%error, "the store's history could not be made short");
        }
        for told in told {
            // Nobody following is no error.
            let _ = self.handle.told.send(Arc::new(told));
        }
        for effect in out.effects {
            self.effect(effect);
        }
        true
    }

    fn commit(&mut self, out: &Output) -> Option<Vec<Told>> {
        if out.records.is_empty() && out.events.is_empty() {
            return Some(Vec::new());
        }
        loop {
            match self.store.commit(
                Stamp { engine: now(), wall: wall() },
                &out.records,
                &out.events,
                out.sync,
            ) {
                Ok(told) => return Some(told),
                Err(error) if self.handle.ending.load(Ordering::Relaxed) => {
                    tracing::error!(%error, "the daemon ends with a store that cannot be written; the next one takes it up");
                    return None;
                }
                // Nothing may be done that is not written down, so nothing is done until it can be.
                Err(error) => {
                    tracing::error!(%error, "the store cannot be written; everything waits until it can");
                    std::thread::sleep(COMMIT_RETRY);
                }
            }
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Perform(ticket, op) => self.perform(ticket, op),
            Effect::AskJob { ticket, job, wait } => self.ask_job(ticket, job, wait),
            Effect::Observe(ticket, also) => {
                let handle = self.handle.clone();
                self.pool.run(move || {
                    let seen = whole(|| handle.host.observe(&also));
                    handle.tell(Event::Observed(ticket, seen));
                });
            }
            Effect::ForgetJob(job) => {
                let handle = self.handle.clone();
                self.pool.run(move || {
                    if let Err(failure) = whole(|| handle.host.forget_job(&job)) {
                        tracing::debug!(%failure, job, "the keeper did not forget a job; it is told again");
                        handle.tell(Event::NotForgotten);
                    }
                });
            }
            Effect::AskEnded => {
                let handle = self.handle.clone();
                self.pool.run(move || {
                    let jobs = whole(|| handle.host.ended_jobs());
                    handle.tell(Event::Remembered(jobs));
                });
            }
            Effect::Release(ticket) => {
                let gate = lock(&self.gates).remove(&ticket);
                if let Some(gate) = gate {
                    let _ = gate.send(());
                }
            }
            Effect::Answer(token, answer) => {
                if let Some(asker) = self.answers.remove(&token) {
                    let _ = asker.send(answer);
                }
            }
            Effect::Name(change) => self.runtime.name(change, &self.engine.state),
            Effect::Reserve { network, mac, client } => self.runtime.reserve(network, mac, client),
            Effect::Acknowledge { network, token } => self.runtime.acknowledge(network, token),
            Effect::Serve(network) => {
                let served = self.runtime.serve(network, &self.engine.state);
                self.handle.tell(Event::Served(network, served));
            }
            Effect::Unserve(network) => self.runtime.unserve(network),
        }
    }

    fn perform(&mut self, ticket: Ticket, op: Op) {
        let (handle, gates) = (self.handle.clone(), Arc::clone(&self.gates));
        self.pool.run(move || {
            let witness = Writer { ticket, handle: &handle, gates };
            let began = Instant::now();
            let result: Result<Reply, Failure> = whole(|| handle.host.perform(&op, &witness));
            tracing::debug!(ticket, took = ?began.elapsed(), ?op, ?result, "performed");
            handle.tell(Event::Done(ticket, result));
        });
    }

    fn ask_job(&mut self, ticket: Ticket, job: String, wait: bool) {
        let handle = self.handle.clone();
        self.pool.run(move || {
            let asked = Instant::now();
            loop {
                match whole(|| handle.host.job(&job)) {
                    Ok(JobState::Running(_)) if wait => std::thread::sleep(JOB_POLL),
                    Ok(state) => return handle.tell(Event::Job(ticket, state)),
                    // Whoever has no descriptor left gets one back; until it is known how the job ended it may still run.
                    Err(_) if asked.elapsed() < ASK_AGAIN => std::thread::sleep(COMMIT_RETRY),
                    Err(failure) => return handle.tell(Event::Done(ticket, Err(failure))),
                }
            }
        });
    }
}

/// What a host says; when it falls, that it did: whoever waits for the answer gets one.
fn whole<T>(ask: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(ask)).unwrap_or_else(|_| {
        let text = "Warren itself failed here; the daemon's log says where";
        Err(Failure::new(text).hint("please report it").unasked())
    })
}

fn merge(into: &mut Output, out: Output) {
    into.records.extend(out.records);
    into.events.extend(out.events);
    into.sync |= out.sync;
    into.effects.extend(out.effects);
    into.wake = out.wake;
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is behind the lock is a map whose every state is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a hook's process down before it may exec.
struct Writer<'a> {
    ticket: Ticket,
    handle: &'a Handle,
    gates: Gates,
}

impl Witness for Writer<'_> {
    fn started(&self, job: &str, process: Process) -> Result<(), Failure> {
        let (open, wait) = channel();
        lock(&self.gates).insert(self.ticket, open);
        self.handle.tell(Event::Started { ticket: self.ticket, job: job.to_owned(), process });
        wait.recv().map_err(|_| Failure::new("the daemon is ending"))
    }
}

/// Threads that block in the host, kept while there is work. The engine bounds how many operations are under way, so the
/// pool need not.
#[derive(Default)]
struct Pool {
    shared: Arc<PoolState>,
}

#[derive(Default)]
struct PoolState {
    queue: Mutex<PoolQueue>,
    work: std::sync::Condvar,
}

#[derive(Default)]
struct PoolQueue {
    tasks: std::collections::VecDeque<Box<dyn FnOnce() + Send>>,
    idle: usize,
    threads: usize,
}

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(10);

impl Pool {
    fn run(&self, task: impl FnOnce() + Send + 'static) {
        let mut queue = lock(&self.shared.queue);
        queue.tasks.push_back(Box::new(task));
        if queue.idle >= queue.tasks.len() {
            self.shared.work.notify_one();
            return;
        }
        loop {
            let shared = Arc::clone(&self.shared);
            match std::thread::Builder::new().name("pool".into()).spawn(move || shared.work()) {
                Ok(_) => queue.threads += 1,
                // Those that are there come to it.
                Err(_) if queue.threads > 0 => {}
                // Without any thread nothing can be done; a machine that is out of them gets some back.
                Err(error) => {
                    tracing::error!(%error, "no thread can be had; everything waits until one can");
                    drop(queue);
                    std::thread::sleep(COMMIT_RETRY);
                    queue = lock(&self.shared.queue);
                    continue;
                }
            }
            return;
        }
    }
}

impl PoolState {
    fn work(&self) {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(task) = queue.tasks.pop_front() {
                drop(queue);
                // A thread that falls is counted on for ever.
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(task));
                if done.is_err() {
                    tracing::error!("Warren itself failed here; the lines above say where; please report it");
                }
                queue = lock(&self.queue);
                continue;
            }
            queue.idle += 1;
            let (mut woken, timeout) =
                self.work.wait_timeout(queue, IDLE).unwrap_or_else(PoisonError::into_inner);
            woken.idle -= 1;
            if timeout.timed_out() && woken.tasks.is_empty() {
                woken.threads -= 1;
                return;
            }
            queue = woken;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::host::sim::Sim;
    use crate::store::Store;

    /// Whoever is told of everything and does nothing.
    pub(in crate::daemon) struct Nobody;

    impl Runtime for Nobody {
        fn name(&mut self, _: NameChange, _: &State) {}
        fn reserve(&mut self, _: Id, _: crate::host::Mac, _: Option<Client>) {}
        fn acknowledge(&mut self, _: Id, _: u64) {}
        fn serve(&mut self, _: Id, _: &State) -> Result<(), Failure> {
            Ok(())
        }
        fn unserve(&mut self, _: Id) {}
        fn keeper_anew(&mut self) {}
    }

    #[test]
    fn a_daemon_whose_store_cannot_be_written_ends_when_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("warren.db");
        let (store, state) = Store::open(&path).unwrap();
        let settings = Settings { roots: "/roots".into(), program: "/program".into(), jobs: 1 };
        let (driver, handle) =
            Driver::new(store, state, Arc::new(Sim::new()), settings, |_| Box::new(Nobody));
        // To a writer a store that is locked is as bad as a full disk.
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let (done, ended) = channel();
        std::thread::spawn(move || {
            driver.run();
            done.send(()).unwrap();
        });
        handle.end();
        assert!(ended.recv_timeout(Duration::from_secs(20)).is_ok(), "it waits for room for ever");
    }

    #[test]
    fn a_task_that_falls_takes_no_thread_with_it() {
        let pool = Pool::default();
        let (sender, receiver) = channel();
        for n in 0..4 {
            let sender = sender.clone();
            pool.run(move || {
                assert!(n % 2 == 1, "this task falls");
                sender.send(n).unwrap();
            });
        }
        let came: Vec<i32> =
            (0..2).map(|_| receiver.recv_timeout(Duration::from_secs(10)).unwrap()).collect();
        assert_eq!(came.iter().sum::<i32>(), 4);
        let idle = || {
            let queue = lock(&pool.shared.queue);
            queue.tasks.is_empty() && queue.idle == queue.threads
        };
        let given_up = Instant::now() + Duration::from_secs(10);
        while !idle() {
            assert!(Instant::now() < given_up, "a thread that is counted is not there");
            std::thread::sleep(Duration::from_millis(10));
        }
        let seen = whole(|| -> Result<(), Failure> { panic!("a host that falls") });
        assert!(seen.unwrap_err().to_string().contains("Warren itself failed"));
    }
}
