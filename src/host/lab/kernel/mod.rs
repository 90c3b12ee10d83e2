//! The lab-kernel: what stands for the machine. An [`outer`] process stays in the machine's own namespaces and does nothing but
//! make sockets on its loopback and watch; the [`inner`] one is process 1 of new namespaces and owns the rest. Either's death
//! ends both, and with process 1 everything in the lab: that is the machine's reboot.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod graph;
mod inner;
mod jails;
mod network;
mod outer;
mod relays;
mod server;

/// `warren lab-kernel --state-dir DIR`: boots the lab and returns when it is up, or says why it is not.
///
/// Must be called before the process has threads. If a lab runs for this directory already, that is success.
#[must_use]
pub fn run(state_dir: &Path) -> ExitCode {
    match outer::boot(state_dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// `warren lab-kernel …` with the arguments after the word, as [`run`] or, for process 1, by the outer process only.
#[must_use]
pub fn main(arguments: &[OsString]) -> ExitCode {
    let words: Vec<_> = arguments.iter().map(|word| word.to_str()).collect();
    match words.as_slice() {
        [Some("--state-dir"), _] => run(&PathBuf::from(&arguments[1])),
        [Some("--process-1"), Some(fd), _] => inner::run(fd, Path::new(&arguments[2])),
        _ => {
            eprintln!("usage: warren lab-kernel --state-dir DIR");
            ExitCode::from(2)
        }
    }
}
