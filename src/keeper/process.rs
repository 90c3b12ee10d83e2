//! The event loop: one thread, one poll, every source of events a token.
//!
//! Events come edge-triggered from epoll and kqueue (by mio), not from poll(2): with an instance's two pipes each, a
//! thousand instances would make every wake-up walk two thousand descriptors. A source that is not read dry stands in a
//! queue for the next round, so that no job, however much it prints, keeps the others from being served.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::resource::rlim_t;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::pipe2;

use super::child::{self, Launch};
use super::jobs::{Asked, Jobs, New, Out};
use super::logs::{Logs, Origin, check_name};
use super::place::Here;
use super::protocol::{Ask, PROTOCOL, Reply, Request, Say, Task, WirePlace};
use super::streams::{Pumped, Splitter, Stream, open_console};
use super::wire::{Decoder, Outgoing, receive};
use super::{say, sys};
use crate::host::Failure;

const LISTENER: Token = Token(0);
const CHILDREN: Token = Token(1);
const TERMINATE: Token = Token(2);
const FIRST_FREE: usize = 3;

/// How many reads one connection gets in a row. A job's pipe gets one: what it gives has to be written as well.
const TURN: usize = 16;
/// How much one turn of a job's pipe reads, in bytes. It may be as many lines as half of that, and all others wait meanwhile.
const GULP: usize = 16 << 10;
/// The most that waits to be sent to one connection, in bytes; one that does not read is closed.
const MAX_QUEUE: usize = 16 << 20;
/// How long accepting rests when there are no descriptors left.
const REST: Duration = Duration::from_millis(100);
/// How long accepting must not have failed for its next failure to be told again. That one accept succeeded says nothing: near the
/// limit every call takes the last descriptor and gives it back.
const SPELL: Duration = Duration::from_secs(60);

/// What an event loop is made of.
pub struct Keeper {
    poll: Poll,
    listener: UnixListener,
    children: UnixStream,
    terminate: UnixStream,
    next_token: usize,
    again: BTreeSet<Token>,
    connections: HashMap<Token, Connection>,
    reports: HashMap<Token, (String, OwnedFd)>,
    report_of: HashMap<String, Token>,
    streams: HashMap<Token, Stream>,
    streams_of: HashMap<String, Vec<Token>>,
    jobs: Jobs,
    logs: Logs,
    sockets: BTreeMap<String, OwnedFd>,
    open_files: Option<(rlim_t, rlim_t)>,
    accept_at: Option<Instant>,
    /// When accepting last failed.
    accept_failed: Option<Instant>,
    closing: Option<Closing>,
    buffer: Vec<u8>,
}

/// A forced shutdown on its way.
struct Closing {
    asked: Asked,
    give_up: Instant,
    /// Whether what ended jobs left behind must be gone as well.
    force: bool,
}

struct Connection {
    socket: UnixStream,
    decoder: Decoder,
    out: VecDeque<Outgoing>,
    greeted: bool,
    /// The number of the subscribing request.
    subscriber: Option<u64>,
    /// Jobs it started or waits for.
    concerned: Vec<String>,
}

impl Keeper {
    /// Puts the loop together. The listener is bound; nothing blocks on it.
    ///
    /// # Errors
    /// Of the system, about descriptors, signals and the log directory.
    pub fn new(state_dir: &std::path::Path, listener: UnixListener) -> io::Result<Self> {
        let poll = Poll::new()?;
        listener.set_nonblocking(true)?;
        let signal = |number| -> io::Result<UnixStream> {
            let (ours, handlers) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            signal_hook::low_level::pipe::register(number, handlers)?;
            Ok(ours)
        };
        let children = signal(libc::SIGCHLD)?;
        let terminate = signal(libc::SIGTERM)?;
        for (fd, token) in [
            (listener.as_raw_fd(), LISTENER),
            (children.as_raw_fd(), CHILDREN),
            (terminate.as_raw_fd(), TERMINATE),
        ] {
            poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)?;
        }
        Ok(Self {
            poll,
            listener,
            children,
            terminate,
            next_token: FIRST_FREE,
            again: BTreeSet::new(),
            connections: HashMap::new(),
            reports: HashMap::new(),
            report_of: HashMap::new(),
            streams: HashMap::new(),
            streams_of: HashMap::new(),
            jobs: Jobs::default(),
            logs: Logs::new(state_dir)?,
            sockets: BTreeMap::new(),
            open_files: sys::raise_open_files(),
            accept_at: None,
            accept_failed: None,
            closing: None,
            buffer: vec![0; 64 << 10],
        })
    }

    /// Serves until it is told to stop.
    ///
    /// # Errors
    /// Polling fails, which it never should.
    pub fn serve(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        loop {
            let now = Instant::now();
            let wake = [self.jobs.next_timer(), self.accept_at, self.closing.as_ref().map(|c| c.give_up)];
            let timeout = if self.again.is_empty() {
                wake.into_iter().flatten().min().map(|at| at.saturating_duration_since(now))
            } else {
                Some(Duration::ZERO)
            };
            match self.poll.poll(&mut events, timeout) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            let mut terminate = false;
            let mut children = false;
            // A set: what was not read dry may have an event as well, and has one turn all the same.
            let mut ready = std::mem::take(&mut self.again);
            ready.extend(events.iter().map(|e| e.token()));
            for token in ready {
                match token {
                    LISTENER => self.accept(),
                    CHILDREN => children = true,
                    TERMINATE => terminate = true,
                    token => self.on_ready(token),
                }
            }
            // Last, so that what a child reported before its death has been heard.
            if children {
                drain(&self.children);
                self.reap();
            }
            self.jobs.on_timers(Instant::now());
            if self.accept_at.is_some_and(|at| at <= Instant::now()) {
                self.accept_at = None;
                self.accept();
            }
            self.say_all();
            if terminate {
                drain(&self.terminate);
                let live = self.jobs.live();
                if live.is_empty() {
                    return Ok(());
                }
                say(format_args!(
                    "warren keeper: SIGTERM ignored, {} jobs run ({})",
                    live.len(),
                    some(&live)
                ));
            }
            if self.closed_down() {
                return Ok(());
            }
        }
    }

    fn register(&mut self, fd: &impl AsRawFd, interest: Interest) -> io::Result<Token> {
        let token = Token(self.next_token);
        self.poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), token, interest)?;
        self.next_token += 1;
        Ok(token)
    }

    fn deregister(&self, fd: &impl AsRawFd) {
        // Needed for epoll, where a duplicate in a child would keep the entry alive. It was registered, so it cannot fail.
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd.as_raw_fd()));
    }

    fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((socket, _)) => {
                    if let Err(e) = self.admit(socket) {
                        say(format_args!("warren keeper: accepting a connection: {e}"));
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e)
                    if matches!(
                        e.raw_os_error(),
                        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
                    ) =>
                {
                    // Once, however often it is tried: a shortage may last for days.
                    let now = Instant::now();
                    if self.accept_failed.replace(now).is_none_or(|last| now.duration_since(last) >= SPELL) {
                        say(format_args!("warren keeper: accepting a connection: {e}"));
                    }
                    self.accept_at = Some(now + REST);
                    return;
                }
                // The client has gone again.
                Err(_) => {}
            }
        }
    }

    fn admit(&mut self, socket: UnixStream) -> io::Result<()> {
        socket.set_nonblocking(true)?;
        let token = self.register(&socket, Interest::READABLE | Interest::WRITABLE)?;
        let connection = Connection {
            socket,
            decoder: Decoder::default(),
            out: VecDeque::new(),
            greeted: false,
            subscriber: None,
            concerned: Vec::new(),
        };
        self.connections.insert(token, connection);
        Ok(())
    }

    fn on_ready(&mut self, token: Token) {
        if self.connections.contains_key(&token) {
            self.flush(token);
            self.read_connection(token);
        } else if self.streams.contains_key(&token) {
            if self.pump(token, 1) == Pumped::More {
                self.again.insert(token);
            }
        } else if self.reports.contains_key(&token) {
            self.read_report(token);
        }
    }

    fn read_connection(&mut self, token: Token) {
        for _ in 0..TURN {
            let Some(connection) = self.connections.get_mut(&token) else { return };
            match receive(connection.socket.as_fd(), &mut self.buffer, &mut connection.decoder) {
                Ok(0) => return self.close(token),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return self.close(token),
            }
            loop {
                let Some(connection) = self.connections.get_mut(&token) else { return };
                match connection.decoder.next_frame() {
                    Ok(None) => break,
                    Ok(Some(frame)) => self.on_frame(token, &frame.body, frame.fds),
                    Err(_) => return self.close(token),
                }
            }
        }
        self.again.insert(token);
    }

    fn close(&mut self, token: Token) {
        let Some(connection) = self.connections.remove(&token) else { return };
        self.deregister(&connection.socket);
        self.jobs.on_closed(token, connection.concerned);
    }

    fn say(&mut self, (token, seq): Asked, reply: Reply, fds: Vec<OwnedFd>) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let body = serde_json::to_vec(&Say { seq, reply }).map_err(io::Error::other);
        match body.and_then(|body| Outgoing::new(&body, fds)) {
            Ok(frame) => connection.out.push_back(frame),
            Err(e) => {
                say(format_args!("warren keeper: an answer could not be put into a frame: {e}"));
                return self.close(token);
            }
        }
        self.flush(token);
    }

    fn flush(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        while let Some(frame) = connection.out.front_mut() {
            match frame.send(connection.socket.as_fd()) {
                Ok(true) => {
                    connection.out.pop_front();
                }
                Ok(false) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    if connection.out.iter().map(Outgoing::left).sum::<usize>() > MAX_QUEUE {
                        break;
                    }
                    return;
                }
                Err(_) => break,
            }
        }
        if !connection.out.is_empty() {
            self.close(token);
        }
    }

    fn say_all(&mut self) {
        for out in self.jobs.take_out() {
            match out {
                Out::To(asked, reply) => self.say(asked, reply, vec![]),
                Out::All(exit) => {
                    let subscribed = |(token, c): (&Token, &Connection)| Some((*token, c.subscriber?));
                    let subscribers: Vec<Asked> = self.connections.iter().filter_map(subscribed).collect();
                    for asked in subscribers {
                        self.say(asked, Reply::Exit { exit: exit.clone() }, vec![]);
                    }
                }
            }
        }
    }

    fn on_frame(&mut self, token: Token, body: &[u8], fds: Vec<OwnedFd>) {
        #[derive(serde::Deserialize)]
        struct Number {
            seq: u64,
        }
        match serde_json::from_slice::<Ask>(body) {
            Ok(ask) => self.on_request((token, ask.seq), ask.request, fds),
            Err(e) => {
                let seq = serde_json::from_slice::<Number>(body).map_or(0, |n| n.seq);
                let failure = Failure::new(format!("the keeper does not understand the request: {e}")).hint(
                    format!("it speaks version {PROTOCOL} of the protocol and may be older than the daemon"),
                );
                self.say((token, seq), Reply::Failed { failure }, vec![]);
            }
        }
        self.say_all();
    }

    fn on_request(&mut self, asked: Asked, request: Request, mut fds: Vec<OwnedFd>) {
        let Some(connection) = self.connections.get_mut(&asked.0) else { return };
        let greeting = matches!(request, Request::Hello { .. });
        if !greeting && !connection.greeted {
            let failure = Failure::new("a connection to the keeper begins with a hello");
            return self.say(asked, Reply::Failed { failure }, vec![]);
        }
        if let Request::Start { task: Task { id: job, .. }, .. }
        | Request::Wait { job }
        | Request::Kill { job } = &request
        {
            connection.concerned.push(job.clone());
        }
        let now = Instant::now();
        match request {
            Request::Hello { .. } => {
                connection.greeted = true;
                let pid = std::process::id().cast_signed();
                let warren = Some(env!("CARGO_PKG_VERSION").to_owned());
                self.say(asked, Reply::Hello { protocol: PROTOCOL, pid, warren }, vec![]);
            }
            Request::Start { task, place, spawned, stdio, terminal } => {
                let id = task.id.clone();
                if let Err(failure) = self.start(asked, task, place, spawned, stdio.then_some(terminal), fds)
                {
                    let failure = Failure { message: format!("{id}: {}", failure.message), ..failure };
                    self.say(asked, Reply::Failed { failure }, vec![]);
                }
            }
            Request::Go { job } => self.jobs.go(asked, &job),
            Request::Wait { job } => self.jobs.wait(asked, &job),
            Request::State { job } => {
                let state = self.jobs.state(&job);
                self.say(asked, Reply::State { state }, vec![]);
            }
            Request::Kill { job } => self.jobs.kill(Some(asked), &job, now),
            Request::Forget { job } => self.jobs.forget(asked, &job),
            Request::Jobs => {
                let jobs = self.jobs.list();
                self.say(asked, Reply::Jobs { jobs }, vec![]);
            }
            Request::Subscribe => {
                connection.subscriber = Some(asked.1);
                self.say(asked, Reply::Done, vec![]);
                for exit in self.jobs.ends() {
                    self.say(asked, Reply::Exit { exit }, vec![]);
                }
            }
            Request::PutSocket { name } => {
                let reply = match (fds.pop(), fds.pop(), self.sockets.contains_key(&name)) {
                    (Some(socket), None, false) => {
                        self.sockets.insert(name, socket);
                        Reply::Done
                    }
                    (Some(_), None, true) => failed(format!("the keeper holds a socket {name} already")),
                    _ => failed(format!("leaving the socket {name}: exactly one descriptor is needed")),
                };
                self.say(asked, reply, vec![]);
            }
            Request::GetSocket { name } => match self.sockets.get(&name).map(OwnedFd::try_clone) {
                Some(Ok(socket)) => self.say(asked, Reply::Done, vec![socket]),
                Some(Err(e)) => self.say(asked, failed(format!("the socket {name}: {e}")), vec![]),
                None => self.say(asked, failed(format!("the keeper holds no socket {name}")), vec![]),
            },
            Request::DropSocket { name } => {
                self.sockets.remove(&name);
                self.say(asked, Reply::Done, vec![]);
            }
            Request::Sockets => {
                let names = self.sockets.keys().cloned().collect();
                self.say(asked, Reply::Sockets { names }, vec![]);
            }
            Request::Shutdown { force } => {
                let live = self.jobs.live();
                if !force && !live.is_empty() {
                    let failure = Failure::new(format!("{} jobs run ({})", live.len(), some(&live)))
                        .hint("stop them first, or force the shutdown, which kills them");
                    return self.say(asked, Reply::Failed { failure }, vec![]);
                }
                if force {
                    self.jobs.kill_all(now);
                }
                self.closing = Some(Closing { asked, give_up: now + Duration::from_secs(10), force });
            }
        }
    }

    /// Whether a shutdown has come to its end; then its answer has been sent.
    fn closed_down(&mut self) -> bool {
        let Some(Closing { asked, give_up, force }) = self.closing else { return false };
        let live = self.jobs.live();
        if live.is_empty() && (!force || self.jobs.all_gone()) {
            self.say(asked, Reply::Done, vec![]);
            return true;
        }
        if Instant::now() >= give_up {
            self.closing = None;
            self.say(asked, failed(format!("these jobs do not die: {}", some(&live))), vec![]);
        }
        false
    }

    fn start(
        &mut self,
        asked: Asked,
        task: Task,
        place: WirePlace,
        spawned: bool,
        given: Option<bool>,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        if self.closing.is_some() {
            return Err(Failure::new("the keeper is being shut down"));
        }
        if task.id.is_empty() || task.id.len() > 256 {
            return Err(Failure::new("the id of a job has 1 to 256 bytes"));
        }
        if self.jobs.contains(&task.id) {
            return Err(Failure::new("there is a job of this id already").hint("ids are never used twice"));
        }
        if task.argv.first().is_none_or(String::is_empty) {
            return Err(Failure::new("the command is empty"));
        }
        if let Some(key) = task.env.keys().find(|key| key.is_empty() || key.contains(['=', '\0'])) {
            return Err(Failure::new(format!("{key:?} cannot be the name of a variable")));
        }
        check_name(&task.log)?;
        let mut fds = fds.into_iter();
        let stdio = given.map(|_| (fds.next(), fds.next(), fds.next()));
        let place = here(place, fds.collect())?;

        let os = |what: &'static str| move |e: io::Error| Failure::os(what, &e);
        let (gate_out, gate_in) = pipe()?;
        let (report_out, report_in) = pipe()?;
        nonblocking(&report_out)?;
        let (stdio, outputs) = match stdio {
            Some((Some(input), Some(output), Some(error))) => ([input, output, error], None),
            Some(_) => return Err(Failure::new("three standard descriptors are needed")),
            None => {
                let null = std::fs::File::open("/dev/null").map_err(os("opening /dev/null"))?;
                let (out_out, out_in) = pipe()?;
                let (err_out, err_in) = pipe()?;
                nonblocking(&out_out)?;
                nonblocking(&err_out)?;
                (
                    [OwnedFd::from(null), out_in, err_in],
                    Some([(out_out, Origin::Out), (err_out, Origin::Err)]),
                )
            }
        };
        let console = match (&task.consolelog, &outputs) {
            (Some(path), Some(_)) => Some(Rc::new(
                open_console(path, task.console_below.as_deref())
                    .map_err(|e| Failure::os(format!("exec.consolelog {}", path.display()), &e))?,
            )),
            _ => None,
        };

        let (id, log) = (task.id.clone(), task.log.clone());
        let (background, timeout) = (task.background, task.timeout_ms.map(Duration::from_millis));
        let report = self.register(&report_out, Interest::READABLE).map_err(os("registering a pipe"))?;
        let launch = Launch {
            task,
            place,
            stdio,
            terminal: given == Some(true),
            gate: gate_out,
            report: report_in,
            open_files: self.open_files,
        };
        let forked = match child::launch(launch) {
            Ok(forked) => forked,
            Err(e) => {
                self.deregister(&report_out);
                // Before the jail is entered: its own limits are not met yet.
                return Err(Failure::os("fork", &e).unasked());
            }
        };
        self.reports.insert(report, (id.clone(), report_out));
        self.report_of.insert(id.clone(), report);
        for (pipe, origin) in outputs.into_iter().flatten() {
            let (job, log, console) = (id.clone(), log.clone(), console.clone());
            self.add_stream(Stream { pipe, job, log, origin, console, splitter: Splitter::default() });
        }
        self.jobs.insert(New { id, forked, gate: gate_in, spawned, background, timeout, asked });
        Ok(())
    }

    fn add_stream(&mut self, stream: Stream) {
        // Without its log a job still runs, and its pipe is still emptied; the log is tried again when there is something for it.
        if let Err(e) = self.logs.open(&stream.log, wall_clock()) {
            say(format_args!("warren keeper: the log {}: {e}", stream.log));
        }
        match self.register(&stream.pipe, Interest::READABLE) {
            Ok(token) => {
                self.streams_of.entry(stream.job.clone()).or_default().push(token);
                self.streams.insert(token, stream);
            }
            Err(e) => {
                say(format_args!("warren keeper: a pipe of {}: {e}", stream.job));
                self.logs.close(&stream.log);
            }
        }
    }

    fn pump(&mut self, token: Token, turns: usize) -> Pumped {
        let Some(stream) = self.streams.get_mut(&token) else { return Pumped::End };
        for _ in 0..turns {
            let gulp = self.buffer.get_mut(..GULP).unwrap_or_default();
            match stream.pump(&mut self.logs, gulp, wall_clock()) {
                Pumped::More => {}
                Pumped::Dry => return Pumped::Dry,
                Pumped::End => {
                    if let Some(stream) = self.streams.remove(&token) {
                        self.deregister(&stream.pipe);
                        self.logs.close(&stream.log);
                        if let Some(tokens) = self.streams_of.get_mut(&stream.job) {
                            tokens.retain(|t| *t != token);
                            if tokens.is_empty() {
                                self.streams_of.remove(&stream.job);
                            }
                        }
                    }
                    return Pumped::End;
                }
            }
        }
        Pumped::More
    }

    fn read_report(&mut self, token: Token) {
        loop {
            let Some((id, pipe)) = self.reports.get(&token) else { return };
            let id = id.clone();
            let count = match nix::unistd::read(pipe, &mut self.buffer) {
                Ok(count) => count,
                Err(nix::Error::EINTR) => continue,
                Err(nix::Error::EAGAIN) => return,
                Err(_) => 0,
            };
            if count == 0 {
                if let Some((_, pipe)) = self.reports.remove(&token) {
                    self.deregister(&pipe);
                }
                // By its token: the id may be another job's already, if this one never started.
                if self.report_of.get(&id) == Some(&token) {
                    self.report_of.remove(&id);
                } else {
                    return;
                }
            }
            if self.report_of.get(&id).is_none_or(|current| *current == token) {
                let bytes = self.buffer.get(..count).unwrap_or_default();
                self.jobs.on_report(&id, bytes, count == 0, Instant::now());
            }
        }
    }

    fn reap(&mut self) {
        loop {
            // Looked at first and taken away later: what it reported must be heard while its number is still its own.
            let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            let pid = match waitid(Id::All, peek) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) => pid,
                Err(nix::Error::EINTR) => continue,
                _ => return,
            };
            if let Some(token) = self.jobs.reporting(pid).and_then(|id| self.report_of.get(id)) {
                self.read_report(*token);
            }
            let Ok(status) = waitpid(pid, Some(WaitPidFlag::WNOHANG)) else { return };
            let Some(id) = self.jobs.on_reaped(pid, status) else { continue };
            // What it printed last is written down before its end is told. Another process may print on for ever, hence twice
            // what a pipe holds and no more.
            for token in self.streams_of.get(&id).cloned().unwrap_or_default() {
                if self.pump(token, 8) == Pumped::More {
                    self.again.insert(token);
                }
            }
            self.jobs.settle(&id, Instant::now());
        }
    }
}

fn failed(message: String) -> Reply {
    Reply::Failed { failure: Failure::new(message) }
}

/// A few names of many.
fn some(names: &[String]) -> String {
    let mut text = names.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 5 {
        text.push_str(", …");
    }
    text
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    pipe2(OFlag::O_CLOEXEC).map_err(|e| {
        Failure::os("making a pipe", &e.into())
            .hint("the limit of open files of the keeper's starter may be too low")
    })
}

fn nonblocking(fd: &OwnedFd) -> Result<(), Failure> {
    fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|e| Failure::os("fcntl", &e.into()))?;
    Ok(())
}

fn drain(mut pipe: &UnixStream) {
    let mut buffer = [0; 64];
    while pipe.read(&mut buffer).is_ok_and(|count| count > 0) {}
}

/// For log lines only, in milliseconds since the epoch.
fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn here(place: WirePlace, fds: Vec<OwnedFd>) -> Result<Here, Failure> {
    match place {
        WirePlace::Host { cwd } => Ok(Here::Host(cwd)),
        #[cfg(target_os = "linux")]
        WirePlace::Namespaces => Ok(Here::Namespaces(fds)),
        #[cfg(target_os = "freebsd")]
        WirePlace::Jail { jid } => Ok(Here::Jail(jid)),
        #[cfg(target_os = "linux")]
        WirePlace::Jail { jid } => {
            drop(fds);
            Err(Failure::new(format!("running in the jail {jid}: Linux has no jails")))
        }
        #[cfg(target_os = "freebsd")]
        WirePlace::Namespaces => {
            drop(fds);
            Err(Failure::new("running in namespaces: FreeBSD has none"))
        }
    }
}
