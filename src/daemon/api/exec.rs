//! `warren exec`: a command in an instance, its standard streams carried over the upgraded connection.
//!
//! After the upgrade both sides send frames: one byte kind, four bytes length (big endian), the data. The command gets pipes, or a
//! terminal of its own; never a descriptor of the caller's, who is outside the jail.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::RequestExt as _;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::carry::{PATIENCE, carry, streams};
use super::{Api, Rejected, Writer};
use crate::config::spec::CommandLine;
use crate::host::{Exit, Failure, Host, Job, JobState, NoWitness, Op, Status};
use crate::lifecycle::plan;

/// The protocol's name in the Upgrade header.
pub const PROTOCOL: &str = "warren-exec";
/// Bytes before a frame's data.
pub const FRAME_HEAD: usize = 5;
/// The longest frame taken from a client.
const MAX_FRAME: usize = 1 << 20;

/// A frame of the upgraded connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// To standard input; empty: its end.
    Input(Vec<u8>),
    /// From standard output.
    Output(Vec<u8>),
    /// From standard error.
    Error(Vec<u8>),
    /// The terminal's new size: columns, rows.
    Size(u16, u16),
    /// The command ended.
    End(Status),
}

impl Frame {
    /// The frame's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, data) = match self {
            Self::Input(data) => (0, data.clone()),
            Self::Output(data) => (1, data.clone()),
            Self::Error(data) => (2, data.clone()),
            Self::Size(columns, rows) => (3, [columns.to_be_bytes(), rows.to_be_bytes()].concat()),
            Self::End(status) => (4, serde_json::to_vec(status).unwrap_or_default()),
        };
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes();
        [&[kind][..], &length, &data].concat()
    }

    /// Reads one frame. `None` at the end of the connection, or when what comes is no frame.
    pub async fn read(from: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<Self> {
        let mut head = [0; FRAME_HEAD];
        from.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > MAX_FRAME {
            return None;
        }
        let mut data = vec![0; length];
        from.read_exact(&mut data).await.ok()?;
        Some(match head[0] {
            0 => Self::Input(data),
            1 => Self::Output(data),
            2 => Self::Error(data),
            3 => {
                let bytes: [u8; 4] = data.try_into().ok()?;
                Self::Size(u16::from_be_bytes([bytes[0], bytes[1]]), u16::from_be_bytes([bytes[2], bytes[3]]))
            }
            4 => Self::End(serde_json::from_slice(&data).ok()?),
            _ => return None,
        })
    }
}

/// What is to be run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Program and arguments; not empty.
    pub command: Vec<String>,
    /// Whether it gets a terminal, of this size.
    pub terminal: Option<(u16, u16)>,
    /// The `TERM` of that terminal.
    pub term: Option<String>,
}

static LAST: AtomicU64 = AtomicU64::new(0);

#[utoipa::path(post, path = "/v1/instances/{name}/exec", responses((status = 101, description = "frames, see src/daemon/api/exec.rs")))]
pub(super) async fn exec(
    _: Writer,
    State(api): State<Api>,
    Path(name): Path<String>,
    mut request: Request,
) -> Result<Response, Rejected> {
    let id = api.resolve(name).await?;
    let upgrade = hyper::upgrade::on(&mut request);
    let Json(wanted): Json<ExecRequest> = request
        .extract()
        .await
        .map_err(|e| Rejected::new(StatusCode::BAD_REQUEST, "invalid", format!("{e}")))?;
    if wanted.command.is_empty() {
        return Err(Rejected::new(StatusCode::BAD_REQUEST, "invalid", "no command was given"));
    }
    let ExecRequest { command, terminal, term } = wanted;
    let key = format!("exec.{}.{}", crate::daemon::clock::now(), LAST.fetch_add(1, Ordering::Relaxed));
    let job = api.handle.query(move |engine, _| {
        let there = engine.state.instances.get(&id).filter(|i| i.unit.journal.reply("jail").is_some());
        there.map(|i| plan::command_inside(&i.spec, &i.given, &key, CommandLine::Argv(command)))
    });
    let Some(mut job) = job.await? else {
        return Err(Rejected::new(
            StatusCode::CONFLICT,
            "conflict",
            "the instance has no jail at the moment",
        ));
    };
    // The daemon's environment is nothing to whoever asks, whatever the instance's own commands are given.
    job.clean_env = true;
    job.env.extend(term.filter(|_| terminal.is_some()).map(|term| ("TERM".to_owned(), term)));
    let failed =
        |e: std::io::Error| Rejected::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", e.to_string());
    let (ours, theirs) = streams(terminal).map_err(failed)?;
    let mut exits = api.handle.exits();
    let running = begin(&api.commands, job, theirs, terminal.is_some()).await?;
    tokio::spawn(async move {
        let host = api.handle.host();
        let ended = end_of(&mut exits, &running.job, || {
            let (host, job) = (Arc::clone(&host), running.job.clone());
            async move { tokio::task::spawn_blocking(move || host.job(&job)).await.ok()?.ok() }
        });
        if let Ok(connection) = upgrade.await {
            carry(TokioIo::new(connection), ours, ended, PATIENCE).await;
        }
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    Ok(response)
}

/// The commands that run for those who are connected.
pub(super) struct Commands {
    host: Arc<dyn Host>,
    jobs: Mutex<BTreeSet<String>>,
}

impl Commands {
    pub(super) fn new(host: Arc<dyn Host>) -> Self {
        Self { host, jobs: Mutex::default() }
    }

    fn jobs(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills one and has it forgotten, unless that was done.
    fn end_one(&self, job: &str) {
        if !self.jobs().remove(job) {
            return;
        }
        let killed = self.host.perform(&Op::KillJob { job: job.to_owned() }, &NoWitness);
        if let Err(failure) = killed.and_then(|_| self.host.forget_job(job)) {
            tracing::debug!(%failure, job, "a command could not be forgotten");
        }
    }

    /// Ends all of them: the daemon does.
    pub(super) fn end(&self) {
        let all = self.jobs().clone();
        all.iter().for_each(|job| self.end_one(job));
    }
}

/// A command that runs. It goes with its caller: wherever this is dropped, the command is killed and forgotten.
struct Running {
    commands: Arc<Commands>,
    job: String,
}

/// Starts a command. The caller may go at any moment, also while the keeper is asked: what comes of that is dropped then.
async fn begin(
    commands: &Arc<Commands>,
    job: Job,
    stdio: [OwnedFd; 3],
    terminal: bool,
) -> Result<Running, Rejected> {
    let commands = Arc::clone(commands);
    let begun = tokio::task::spawn_blocking(move || {
        commands.jobs().insert(job.id.clone());
        let running = Running { job: job.id.clone(), commands };
        running.commands.host.exec(&job, stdio, terminal)?;
        Ok::<_, Failure>(running)
    });
    let begun = begun.await;
    Ok(begun.map_err(|e| Rejected::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", e.to_string()))??)
}

impl Drop for Running {
    fn drop(&mut self) {
        let (commands, job) = (Arc::clone(&self.commands), std::mem::take(&mut self.job));
        let forget = move || commands.end_one(&job);
        // The keeper's answer is waited for, which no thread of the API does.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(forget)),
            Err(_) => forget(),
        }
    }
}

/// How a job ends. Whoever heard too late asks what became of it: its own end may be among those that were missed.
async fn end_of<F: Future<Output = Option<JobState>>>(
    exits: &mut broadcast::Receiver<Exit>,
    job: &str,
    ask: impl Fn() -> F,
) -> Status {
    loop {
        match exits.recv().await {
            Ok(exit) if exit.job == job => return exit.status,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => match ask().await {
                Some(JobState::Ended(status)) => return status,
                Some(JobState::Unknown) => return Status::Unknown,
                // It goes on, or could not be asked about: the rest of what is told is heard.
                Some(JobState::Running(_)) | None => {}
            },
            Err(RecvError::Closed) => return Status::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_that_was_told_too_fast_is_asked_for() {
        let (tell, mut exits) = broadcast::channel(2);
        for job in ["mine", "a", "b", "c"] {
            tell.send(Exit { job: job.into(), status: Status::Exited(3) }).unwrap();
        }
        let asked = end_of(&mut exits, "mine", async || Some(JobState::Ended(Status::Exited(3))));
        let waited = tokio::time::timeout(std::time::Duration::from_secs(5), asked).await;
        assert_eq!(waited.expect("it waits for ever"), Status::Exited(3));
    }

    #[tokio::test]
    async fn a_command_whose_caller_left_while_it_was_started_is_killed_and_forgotten() {
        let sim = crate::host::sim::Sim::new();
        let job = Job::plain("a.exec");
        let (_ours, theirs) = streams(None).unwrap();
        let commands = Arc::new(Commands::new(Arc::new(sim.clone())));
        let mut asked = Box::pin(begin(&commands, job, theirs, false));
        // Once: the keeper is being asked when the caller's request goes. While it is looked at the sim answers nobody.
        let waits = std::future::poll_fn(|cx| {
            std::task::Poll::Ready(sim.look(|_| asked.as_mut().poll(cx).is_pending()))
        });
        assert!(waits.await, "it was to wait for the keeper");
        drop(asked);
        let killed = || sim.log().contains(&Op::KillJob { job: "a.exec".into() });
        for _ in 0..500 {
            if killed() && sim.job("a.exec").unwrap() == JobState::Unknown {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("killed: {}, and it is {:?}", killed(), sim.job("a.exec"));
    }
}
