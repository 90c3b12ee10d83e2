//! `warren exec`: a command in an instance, its standard streams carried over the upgraded connection.
//!
//! After the upgrade both sides send frames: one byte kind, four bytes length (big endian), the data. The command gets pipes, or a
//! terminal of its own; never a descriptor of the caller's, who is outside the jail.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Json;
use axum::RequestExt as _;
use axum::extract::{Path, Request, State};
use axum::http::header::{CONNECTION, UPGRADE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use nix::pty::{Winsize, openpty};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};

use super::{Api, Rejected, Writer};
use crate::config::spec::CommandLine;
use crate::host::{Exit, Job, JobState, Status};

/// The protocol's name in the Upgrade header.
pub const PROTOCOL: &str = "warren-exec";
/// Bytes before a frame's data.
pub const FRAME_HEAD: usize = 5;
/// The longest frame taken from a client.
const MAX_FRAME: usize = 1 << 20;
/// How long after a command's end its streams may still bring something.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_secs(1);

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

/// The command's streams as we hold them.
enum Ours {
    Pipes { input: pipe::Sender, output: pipe::Receiver, error: pipe::Receiver },
    Terminal(tokio::fs::File, OwnedFd),
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
    let spec = api.handle.query(move |engine, _| {
        engine
            .state
            .instances
            .get(&id)
            .filter(|i| i.unit.journal.reply("jail").is_some())
            .map(|i| (i.given.jail(&i.spec), i.spec.clone()))
    });
    let Some((jail, spec)) = spec.await? else {
        return Err(Rejected::new(
            StatusCode::CONFLICT,
            "conflict",
            "the instance has no jail at the moment",
        ));
    };
    let mut env: BTreeMap<String, String> = spec.env.clone();
    env.extend(
        wanted.term.clone().filter(|_| wanted.terminal.is_some()).map(|term| ("TERM".to_owned(), term)),
    );
    let job = Job {
        id: format!("{id}.exec.{}.{}", crate::daemon::clock::now(), LAST.fetch_add(1, Ordering::Relaxed)),
        jail: Some(jail),
        command: CommandLine::Argv(wanted.command),
        env,
        clean_env: true,
        user: spec.jail_user.clone(),
        system_jail_user: spec.system_jail_user,
        fib: spec.fib,
        timeout: None,
        log: id.to_string(),
        consolelog: None,
        console_below: None,
    };
    let failed =
        |e: std::io::Error| Rejected::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", e.to_string());
    let (ours, theirs) = streams(wanted.terminal).map_err(failed)?;
    let mut exits = api.handle.exits();
    let (host, started) = (api.handle.host(), job.clone());
    let terminal = wanted.terminal.is_some();
    let begun = tokio::task::spawn_blocking(move || host.exec(&started, theirs, terminal)).await;
    begun.map_err(|e| Rejected::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", e.to_string()))??;
    tokio::spawn(async move {
        let awaited = job.id.clone();
        let host = api.handle.host();
        let ended = end_of(&mut exits, &awaited, || {
            let (host, job) = (Arc::clone(&host), awaited.clone());
            async move { tokio::task::spawn_blocking(move || host.job(&job)).await.ok()?.ok() }
        });
        if let Ok(connection) = upgrade.await {
            carry(TokioIo::new(connection), ours, ended).await;
        }
        let host = api.handle.host();
        let forgotten = tokio::task::spawn_blocking(move || {
            // A caller that went away takes its command with it.
            host.perform(&crate::host::Op::KillJob { job: job.id.clone() }, &crate::host::NoWitness)?;
            host.forget_job(&job.id)
        });
        if let Ok(Err(failure)) = forgotten.await {
            tracing::debug!(%failure, "a command could not be forgotten");
        }
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    Ok(response)
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

fn streams(terminal: Option<(u16, u16)>) -> std::io::Result<(Ours, [OwnedFd; 3])> {
    let Some((columns, rows)) = terminal else {
        let (input, theirs_in) = nix::unistd::pipe().map(|(r, w)| (w, r))?;
        let (output, theirs_out) = nix::unistd::pipe()?;
        let (error, theirs_err) = nix::unistd::pipe()?;
        let ours = Ours::Pipes {
            input: pipe::Sender::from_owned_fd(input)?,
            output: pipe::Receiver::from_owned_fd(output)?,
            error: pipe::Receiver::from_owned_fd(error)?,
        };
        return Ok((ours, [theirs_in, theirs_out, theirs_err]));
    };
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(&size, None)?;
    let (out, err) = (pty.slave.try_clone()?, pty.slave.try_clone()?);
    let control = pty.master.try_clone()?;
    let master = tokio::fs::File::from_std(std::fs::File::from(pty.master));
    Ok((Ours::Terminal(master, control), [pty.slave, out, err]))
}

/// Carries bytes until the command has ended and all it wrote is out, or the caller is gone.
async fn carry(
    connection: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
    ours: Ours,
    ended: impl Future<Output = Status>,
) {
    let (mut from_caller, mut to_caller) = tokio::io::split(connection);
    let (frames, mut outgoing) = mpsc::channel::<Frame>(64);
    let mut input: Box<dyn tokio::io::AsyncWrite + Send + Unpin>;
    let mut control = None;
    match ours {
        Ours::Pipes { input: pipe, output, error } => {
            input = Box::new(pipe);
            tokio::spawn(pump(output, frames.clone(), Frame::Output));
            tokio::spawn(pump(error, frames.clone(), Frame::Error));
        }
        Ours::Terminal(master, fd) => {
            let reader = master.try_clone().await;
            input = Box::new(master);
            control = Some(fd);
            if let Ok(reader) = reader {
                tokio::spawn(pump(reader, frames.clone(), Frame::Output));
            }
        }
    }
    drop(frames);
    let caller = async {
        while let Some(frame) = Frame::read(&mut from_caller).await {
            match frame {
                Frame::Input(data) if data.is_empty() => input = Box::new(tokio::io::sink()),
                Frame::Input(data) => drop(input.write_all(&data).await),
                Frame::Size(columns, rows) => resize(control.as_ref(), columns, rows),
                _ => {}
            }
        }
    };
    let answers = tokio::spawn(async move {
        while let Some(frame) = outgoing.recv().await {
            if to_caller.write_all(&frame.encode()).await.is_err() {
                break;
            }
        }
        to_caller
    });
    let status = tokio::select! {
        status = ended => status,
        // Nobody is there to be told.
        () = caller => return,
    };
    // A process left behind may hold the streams for ever; what the command wrote is out by then.
    if let Ok(Ok(mut to_caller)) = tokio::time::timeout(LAST_WORDS, answers).await {
        let _ = to_caller.write_all(&Frame::End(status).encode()).await;
        let _ = to_caller.shutdown().await;
    }
}

async fn pump(
    mut from: impl tokio::io::AsyncRead + Unpin,
    to: mpsc::Sender<Frame>,
    kind: fn(Vec<u8>) -> Frame,
) {
    let mut buffer = vec![0; 16 * 1024];
    // The other end of a terminal closing is an error on Linux, an end elsewhere.
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if to.send(kind(buffer[..count].to_vec())).await.is_err() {
            return;
        }
    }
}

#[allow(unsafe_code)]
fn resize(terminal: Option<&OwnedFd>, columns: u16, rows: u16) {
    use std::os::fd::AsRawFd;
    let Some(terminal) = terminal else { return };
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads a winsize from the pointer, which lives for the call. A failure leaves the old size.
    unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
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
}
