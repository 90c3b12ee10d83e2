//! Running the base system's programs where they are the only stable interface: pfctl(8), zfs(8), devfs(8), mount(8). No shell.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::host::Failure;

/// How long one that was killed may take to end. One that waits in the kernel for a server takes as long as the kernel likes.
const MOMENT: Duration = Duration::from_secs(5);

/// What a program printed.
#[derive(Debug)]
pub struct Said {
    /// Whether it exited with 0.
    pub ok: bool,
    /// Standard output.
    pub out: String,
    /// Standard error, trimmed.
    pub err: String,
}

impl Said {
    /// Its output, or a failure with its words.
    pub fn or_failure(self, what: impl std::fmt::Display) -> Result<String, Failure> {
        if self.ok { Ok(self.out) } else { Err(Failure::new(format!("{what}: {}", self.words()))) }
    }

    /// What to tell of a failure.
    fn words(&self) -> &str {
        if self.err.is_empty() { self.out.trim() } else { &self.err }
    }
}

/// Runs a program to its end.
///
/// # Errors
/// It could not be run. A bad status is no error: see [`Said`].
pub fn run<S: AsRef<std::ffi::OsStr>>(program: &str, arguments: &[S], input: &str) -> Result<Said, Failure> {
    start(program, arguments, input, |child| {
        child.wait_with_output().map_err(|error| failed(program, &error))
    })
}

/// Runs a program to its end, which it has so long to come to; then it is killed, and what it has started with it.
///
/// # Errors
/// It could not be run, or had to be killed.
pub fn run_within<S: AsRef<std::ffi::OsStr>>(
    program: &str,
    arguments: &[S],
    bound: Duration,
) -> Result<Said, Failure> {
    let (hand, handed) = mpsc::channel::<std::process::Child>();
    let (done, ended) = mpsc::channel();
    // Nobody hears of one that ends after it was given up; it is reaped all the same. The thread comes first: without one nothing
    // is started.
    waiter(program, move || {
        if let Ok(child) = handed.recv() {
            let _ = done.send(child.wait_with_output());
        }
    })?;
    start(program, arguments, "", |child| {
        let group = Pid::from_raw(child.id().cast_signed());
        let _ = hand.send(child);
        if let Ok(output) = ended.recv_timeout(bound) {
            return output.map_err(|error| failed(program, &error));
        }
        let late = format!("{program} did not end within {} s and was killed", bound.as_secs());
        // ESRCH: it has ended just now.
        let _ = killpg(group, Signal::SIGKILL);
        Err(match ended.recv_timeout(MOMENT) {
            Ok(_) => Failure::new(late),
            Err(_) => Failure::new(format!("{late}, but the kernel holds it"))
                .hint(format!("`procstat -kk {group}` shows where; what it was to do may yet be done")),
        })
    })
}

/// A thread, where one can be had.
fn waiter(
    program: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<std::thread::JoinHandle<()>, Failure> {
    std::thread::Builder::new().spawn(work).map_err(|error| failed(program, &error))
}

fn failed(program: &str, error: &std::io::Error) -> Failure {
    Failure::os(format!("run {program}"), error)
}

/// Starts a program, as leader of a process group of its own, and has it waited for.
fn start<S: AsRef<std::ffi::OsStr>>(
    program: &str,
    arguments: &[S],
    input: &str,
    wait: impl FnOnce(std::process::Child) -> Result<Output, Failure>,
) -> Result<Said, Failure> {
    let mut command = Command::new(program);
    // Words of errors are looked at, so they must be English.
    command
        .args(arguments)
        .env("LC_ALL", "C")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let text = input.to_owned();
    let (hand, handed) = mpsc::channel::<std::process::ChildStdin>();
    // From a thread: a program that prints much before it has read all would wait for us, and we for it. The thread comes first: a
    // program that was started and reads nothing would do what nothing says, pfctl(8) load an empty anchor.
    let writer = waiter(program, move || {
        if let Ok(mut stdin) = handed.recv() {
            // One that does not read to the end says why by its status.
            let _ = stdin.write_all(text.as_bytes());
        }
    })?;
    let mut child = command.spawn().map_err(|error| failed(program, &error))?;
    if let Some(stdin) = child.stdin.take() {
        let _ = hand.send(stdin);
    }
    let output = wait(child)?;
    let _ = writer.join();
    Ok(Said {
        ok: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
