//! What the daemon calls.
//!
//! Each call makes a connection of its own: a request costs some ten microseconds more that way, and in return threads
//! cannot stand in each other's way, a job that is not let go is known by its connection's end, and there is no thread
//! and no table behind the scenes. Only [`Client::exits`] has a thread, for its channel.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::Place;
use super::command::argv;
use super::protocol::{Ask, JobInfo, PROTOCOL, Reply, Request, Say, Task, WirePlace};
use super::start::socket_path;
use super::wire::{Decoder, receive, send};
use crate::host::{Exit, Failure, Job, JobState, Process, Status, Witness};

/// How long a keeper may take for an answer that needs no waiting. It looks users up, which may ask a network.
const PATIENCE: Duration = Duration::from_secs(60);

/// A keeper, from outside. Calls may come from any number of threads; none waits for another.
#[derive(Debug, Clone)]
pub struct Client {
    state_dir: PathBuf,
    socket: PathBuf,
    protocol: u32,
    pid: i32,
    warren: Option<String>,
}

impl Client {
    /// Connects to the keeper that runs for a state directory.
    ///
    /// # Errors
    /// None runs, or it does not answer.
    pub fn connect(state_dir: &Path) -> Result<Self, Failure> {
        let socket = socket_path(state_dir);
        let mut line = Line::open(&socket)?;
        let (protocol, pid, warren) = line.greeted()?;
        Ok(Self { state_dir: state_dir.to_owned(), socket, protocol, pid, warren })
    }

    /// Connects to the keeper of a state directory, starting one if there is none: this program is executed again with
    /// `keeper --state-dir DIR`.
    ///
    /// # Errors
    /// It could not be started, with what it said; or it does not answer.
    pub fn start_or_connect(state_dir: &Path) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|e| Failure::os("finding this program", &e))?;
        Self::start_or_connect_with(state_dir, &program)
    }

    /// As [`start_or_connect`](Self::start_or_connect), with the program to execute.
    ///
    /// # Errors
    /// As there.
    pub fn start_or_connect_with(state_dir: &Path, program: &Path) -> Result<Self, Failure> {
        if let Ok(client) = Self::connect(state_dir) {
            return Ok(client);
        }
        let output = Command::new(program)
            .arg("keeper")
            .arg("--state-dir")
            .arg(state_dir)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output();
        let output = output.map_err(|e| Failure::os(format!("executing {}", program.display()), &e))?;
        // If another daemon was faster, its keeper is as good as ours; it may be between its lock and its socket.
        let tries = if output.status.success() { 1 } else { 20 };
        let mut last = Failure::new("the keeper did not start");
        for again in 0..tries {
            if again > 0 {
                std::thread::sleep(Duration::from_millis(50));
            }
            match Self::connect(state_dir) {
                Ok(client) => return Ok(client),
                Err(e) => last = e,
            }
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(if said.is_empty() { last } else { Failure::new(format!("starting the keeper: {said}")) })
    }

    /// The newest version of the protocol that the keeper speaks.
    #[must_use]
    pub fn protocol(&self) -> u32 {
        self.protocol
    }

    /// The version of the keeper's Warren; an old one does not say.
    #[must_use]
    pub fn warren(&self) -> Option<&str> {
        self.warren.as_deref()
    }

    /// The keeper's process, as the keeper numbers itself.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The directory whose logs [`logs`](super::logs) reads.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// Runs a job to its end, and kills its whole group unless it ended with 0. One whose command ends in a lone `&` counts as
    /// having ended with 0 once it runs.
    ///
    /// # Errors
    /// It did not start, or its end was not seen because the keeper died. A bad status is no error.
    pub fn run(&self, job: &Job, place: Place, witness: &dyn Witness) -> Result<Status, Failure> {
        let (mut line, _) = self.start(job, place, witness, false, None, false)?;
        let status = line.wait(&job.id)?;
        if !status.success() {
            self.kill(&job.id)?;
        }
        Ok(status)
    }

    /// Starts a job whose end comes by [`exits`](Self::exits).
    ///
    /// # Errors
    /// It did not start.
    pub fn spawn(&self, job: &Job, place: Place, witness: &dyn Witness) -> Result<Process, Failure> {
        self.start(job, place, witness, true, None, false).map(|(_, process)| process)
    }

    /// Starts a job with its standard descriptors given; with `terminal`, the first is a terminal, and becomes its controlling
    /// one. Its end comes by [`exits`](Self::exits). Nothing of it goes to a log.
    ///
    /// # Errors
    /// It did not start.
    pub fn exec(
        &self,
        job: &Job,
        place: Place,
        stdio: [OwnedFd; 3],
        terminal: bool,
    ) -> Result<Process, Failure> {
        self.start(job, place, &crate::host::NoWitness, true, Some(stdio), terminal)
            .map(|(_, process)| process)
    }

    fn start(
        &self,
        job: &Job,
        place: Place,
        witness: &dyn Witness,
        spawned: bool,
        stdio: Option<[OwnedFd; 3]>,
        terminal: bool,
    ) -> Result<(Line, Process), Failure> {
        let task = task(job)?;
        let with_stdio = stdio.is_some();
        let mut fds: Vec<OwnedFd> = stdio.into_iter().flatten().collect();
        let place = match place {
            Place::Host { cwd } => WirePlace::Host { cwd },
            Place::Jail(jid) => WirePlace::Jail { jid },
            Place::Namespaces(namespaces) => {
                fds.extend(namespaces);
                WirePlace::Namespaces
            }
        };
        let mut line = Line::open(&self.socket).map_err(Failure::unasked)?;
        let request = Request::Start { task, place, spawned, stdio: with_stdio, terminal };
        let process = match line.ask(request, fds).map_err(Failure::unasked)?.0 {
            Reply::Ready { process } => process,
            other => return Err(unexpected(other)),
        };
        // If this fails the line is dropped, and with it the process.
        witness.started(&job.id, process).map_err(Failure::unasked)?;
        match line.ask(Request::Go { job: job.id.clone() }, vec![])?.0 {
            Reply::Running => Ok((line, process)),
            other => Err(unexpected(other)),
        }
    }

    /// Waits for the end of a job, be it one that another daemon started.
    ///
    /// # Errors
    /// The keeper knows no such job, or died.
    pub fn wait(&self, id: &str) -> Result<Status, Failure> {
        Line::open(&self.socket)?.wait(id)
    }

    /// What a job is doing.
    ///
    /// # Errors
    /// The keeper does not answer.
    pub fn state(&self, id: &str) -> Result<JobState, Failure> {
        match self.ask(Request::State { job: id.to_owned() })? {
            Reply::State { state } => Ok(state),
            other => Err(unexpected(other)),
        }
    }

    /// Kills what is left of a job's process group and returns once it is gone; at once if there is nothing.
    ///
    /// # Errors
    /// Processes do not die within ten seconds, or the keeper does not answer.
    pub fn kill(&self, id: &str) -> Result<(), Failure> {
        self.done(Request::Kill { job: id.to_owned() })
    }

    /// Drops the status of a job that ended. A job that is not there is forgotten already.
    ///
    /// # Errors
    /// It has not ended, or the keeper does not answer.
    pub fn forget(&self, id: &str) -> Result<(), Failure> {
        self.done(Request::Forget { job: id.to_owned() })
    }

    /// Every job that is not forgotten, and those of which processes live.
    ///
    /// # Errors
    /// The keeper does not answer.
    pub fn jobs(&self) -> Result<Vec<JobInfo>, Failure> {
        match self.ask(Request::Jobs)? {
            Reply::Jobs { jobs } => Ok(jobs),
            other => Err(unexpected(other)),
        }
    }

    /// The ends of spawned jobs: first of those that have ended and are not forgotten. An end may come more than once, to
    /// each receiver. The channel closes when the keeper is gone, and with the receiver.
    ///
    /// # Errors
    /// The keeper does not answer.
    pub fn exits(&self) -> Result<Receiver<Exit>, Failure> {
        let mut line = Line::open(&self.socket)?;
        match line.ask(Request::Subscribe, vec![])?.0 {
            Reply::Done => {}
            other => return Err(unexpected(other)),
        }
        line.patience(None)?;
        let (sender, receiver) = channel();
        std::thread::Builder::new()
            .name("keeper exits".into())
            .spawn(move || {
                while let Ok(said) = line.next() {
                    if let Reply::Exit { exit } = said.0.reply
                        && sender.send(exit).is_err()
                    {
                        return;
                    }
                }
            })
            .map_err(|e| Failure::os("starting a thread", &e))?;
        Ok(receiver)
    }

    /// As [`exits`](Self::exits), of the next keeper if this one has died: one is started. What ran under the dead one runs on without
    /// anybody who would see its end. If none can be started the channel is closed.
    #[must_use]
    pub fn exits_of_the_next(&self) -> Receiver<Exit> {
        let started = || Self::start_or_connect(&self.state_dir)?.exits();
        self.exits().or_else(|_| started()).unwrap_or_else(|failure| {
            tracing::error!(%failure, "no keeper could be started: no command runs without one");
            channel().1
        })
    }

    /// Leaves a socket with the keeper, which holds it while daemons come and go.
    ///
    /// # Errors
    /// The name is taken, or the keeper does not answer.
    pub fn put_socket(&self, name: &str, socket: OwnedFd) -> Result<(), Failure> {
        let mut line = Line::open(&self.socket)?;
        match line.ask(Request::PutSocket { name: name.to_owned() }, vec![socket])?.0 {
            Reply::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// A duplicate of a socket that was left with the keeper.
    ///
    /// # Errors
    /// There is none of that name, or the keeper does not answer.
    pub fn get_socket(&self, name: &str) -> Result<OwnedFd, Failure> {
        let (reply, mut fds) =
            Line::open(&self.socket)?.ask(Request::GetSocket { name: name.to_owned() }, vec![])?;
        match (reply, fds.pop()) {
            (Reply::Done, Some(socket)) => Ok(socket),
            (other, _) => Err(unexpected(other)),
        }
    }

    /// Closes a socket, if there is one of that name.
    ///
    /// # Errors
    /// The keeper does not answer.
    pub fn drop_socket(&self, name: &str) -> Result<(), Failure> {
        self.done(Request::DropSocket { name: name.to_owned() })
    }

    /// The names of the sockets, in order.
    ///
    /// # Errors
    /// The keeper does not answer.
    pub fn sockets(&self) -> Result<Vec<String>, Failure> {
        match self.ask(Request::Sockets)? {
            Reply::Sockets { names } => Ok(names),
            other => Err(unexpected(other)),
        }
    }

    /// Ends the keeper; with `force` its jobs are killed first. Statuses and sockets go with it.
    ///
    /// # Errors
    /// Jobs run and it is not forced, or they do not die.
    pub fn shutdown(&self, force: bool) -> Result<(), Failure> {
        self.done(Request::Shutdown { force })
    }

    fn ask(&self, request: Request) -> Result<Reply, Failure> {
        Ok(Line::open(&self.socket)?.ask(request, vec![])?.0)
    }

    fn done(&self, request: Request) -> Result<(), Failure> {
        match self.ask(request)? {
            Reply::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }
}

/// Decides everything about a job that the keeper does not.
fn task(job: &Job) -> Result<Task, Failure> {
    let arguments = argv(&job.command)?;
    Ok(Task {
        id: job.id.clone(),
        argv: arguments.argv,
        background: arguments.background,
        env: job.env.clone(),
        clean_env: job.clean_env,
        user: job.user.clone(),
        host_user: job.system_jail_user,
        fib: job.fib,
        timeout_ms: job.timeout.map(|t| u64::try_from(t.as_millis()).unwrap_or(u64::MAX)),
        log: job.log.clone(),
        consolelog: job.consolelog.clone(),
        console_below: job.console_below.clone(),
    })
}

fn unexpected(reply: Reply) -> Failure {
    match reply {
        Reply::Failed { failure } => failure,
        other => Failure::new(format!("the keeper gave an answer that makes no sense here: {other:?}")),
    }
}

/// A connection.
struct Line {
    socket: UnixStream,
    decoder: Decoder,
    buffer: Vec<u8>,
    seq: u64,
    early: VecDeque<(Say, Vec<OwnedFd>)>,
}

impl Line {
    fn open(path: &Path) -> Result<Self, Failure> {
        let socket = UnixStream::connect(path).map_err(|e| {
            let failure = Failure::os(format!("connecting to the keeper at {}", path.display()), &e);
            match e.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => failure.hint("no keeper runs"),
                _ => failure,
            }
        })?;
        let mut line = Self {
            socket,
            decoder: Decoder::default(),
            buffer: vec![0; 16 << 10],
            seq: 0,
            early: VecDeque::new(),
        };
        line.patience(Some(PATIENCE))?;
        // Its answer is not waited for: a keeper of any version understands this one, and the next one then fails if it must.
        line.put(Request::Hello { protocol: PROTOCOL }, vec![])?;
        Ok(line)
    }

    fn patience(&self, patience: Option<Duration>) -> Result<(), Failure> {
        self.socket.set_read_timeout(patience).map_err(|e| Failure::os("the keeper's socket", &e))
    }

    fn greeted(&mut self) -> Result<(u32, i32, Option<String>), Failure> {
        match self.answer_to(1)?.0 {
            Reply::Hello { protocol, pid, warren } => Ok((protocol, pid, warren)),
            other => Err(unexpected(other)),
        }
    }

    fn put(&mut self, request: Request, fds: Vec<OwnedFd>) -> Result<u64, Failure> {
        self.seq += 1;
        let ask = Ask { seq: self.seq, request };
        let body =
            serde_json::to_vec(&ask).map_err(|e| Failure::new(format!("a request to the keeper: {e}")))?;
        send(self.socket.as_fd(), &body, fds).map_err(|e| gone(&e))?;
        Ok(self.seq)
    }

    fn ask(&mut self, request: Request, fds: Vec<OwnedFd>) -> Result<(Reply, Vec<OwnedFd>), Failure> {
        let seq = self.put(request, fds)?;
        self.answer_to(seq)
    }

    fn wait(&mut self, id: &str) -> Result<Status, Failure> {
        self.patience(None)?;
        match self.ask(Request::Wait { job: id.to_owned() }, vec![]).map_err(|e| during(id, e))?.0 {
            Reply::Ended { status } => Ok(status),
            other => Err(unexpected(other)),
        }
    }

    fn answer_to(&mut self, seq: u64) -> Result<(Reply, Vec<OwnedFd>), Failure> {
        loop {
            let (said, fds) = self.read()?;
            if said.seq == seq {
                return Ok((said.reply, fds));
            }
            // The hello's answer, or an event that overtook.
            if said.seq != 1 {
                self.early.push_back((said, fds));
            }
        }
    }

    /// The next event.
    fn next(&mut self) -> Result<(Say, Vec<OwnedFd>), Failure> {
        self.early.pop_front().map_or_else(|| self.read(), Ok)
    }

    fn read(&mut self) -> Result<(Say, Vec<OwnedFd>), Failure> {
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(|e| gone(&e))? {
                let said = serde_json::from_slice(&frame.body)
                    .map_err(|e| Failure::new(format!("an answer of the keeper is not understood: {e}")))?;
                return Ok((said, frame.fds));
            }
            match receive(self.socket.as_fd(), &mut self.buffer, &mut self.decoder) {
                Ok(0) => return Err(gone(&io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(gone(&e)),
            }
        }
    }
}

fn during(id: &str, failure: Failure) -> Failure {
    Failure { message: format!("waiting for {id}: {}", failure.message), ..failure }
}

fn gone(error: &io::Error) -> Failure {
    let message = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            format!("the keeper does not answer (after {} s)", PATIENCE.as_secs())
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            "the keeper died".to_owned()
        }
        _ => format!("the keeper's socket: {error}"),
    };
    Failure { errno: error.raw_os_error(), ..Failure::new(message) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::NoWitness;

    /// What a keeper that is not there, or does not answer any more, says of a command that was never begun: nothing.
    #[test]
    fn what_no_keeper_was_asked_for_was_not_begun() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("keeper.sock");
        let client = Client {
            state_dir: dir.path().to_owned(),
            socket: socket.clone(),
            protocol: PROTOCOL,
            pid: 1,
            warren: None,
        };
        let job = Job::plain("a.probe.1");
        let run = || client.run(&job, Place::Host { cwd: None }, &NoWitness).unwrap_err();
        assert!(run().is_unasked(), "{}", run());
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let dies = std::thread::spawn(move || drop(listener.accept()));
        assert!(run().is_unasked());
        dies.join().unwrap();
    }
}
