//! Running the base system's programs where they are the only stable interface: pfctl(8), zfs(8), devfs(8). No shell.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::host::Failure;

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
    let failed = |error: std::io::Error| Failure::os(format!("run {program}"), &error);
    let mut command = Command::new(program);
    // Words of errors are looked at, so they must be English.
    command
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let mut stdin = child.stdin.take();
    let text = input.to_owned();
    // From a thread: a program that prints much before it has read all would wait for us, and we for it.
    let writer = std::thread::spawn(move || {
        if let Some(stdin) = &mut stdin {
            // One that does not read to the end says why by its status.
            let _ = stdin.write_all(text.as_bytes());
        }
    });
    let output = child.wait_with_output().map_err(failed)?;
    let _ = writer.join();
    Ok(Said {
        ok: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
