//! From fork to exec: everything that happens in the process of a job before its program runs.
//!
//! The keeper has one thread, so the child of its fork finds every lock free and may run ordinary code, allocation
//! included. What it reports goes through a pipe that an exec closes:
//!
//! - `P` and the process number (4 bytes): the process that will exec exists. It is the forked one, or its sibling in a pid namespace.
//! - `S`: it leads its session and waits at the gate.
//! - `E`, a length (4 bytes) and a [`Failure`] as JSON: it could not go on and exits.
//! - The end: the exec has happened, or the process died.
//!
//! The gate is a pipe as well: a byte lets the child go on, the end makes it exit. Every write is below PIPE_BUF and so
//! in one piece, because for a moment two processes may hold the pipe.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use nix::sys::resource::{Resource, rlim_t, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{ForkResult, Pid, fork, setsid};

use super::place::{self, Here};
use super::protocol::Task;
use super::sys;
use super::users::{self, Account};
use crate::host::Failure;

/// Where the gate and the report are once descriptors are arranged.
const GATE: RawFd = 3;
const REPORT: RawFd = 4;

/// What the child needs to know.
#[derive(Debug)]
pub struct Launch {
    /// What is run.
    pub task: Task,
    /// Where.
    pub place: Here,
    /// Standard input, output and error.
    pub stdio: [OwnedFd; 3],
    /// Whether descriptor 0 becomes its controlling terminal.
    pub terminal: bool,
    /// The end of the gate that is read.
    pub gate: OwnedFd,
    /// The end of the report that is written.
    pub report: OwnedFd,
    /// The limits of open files to put back.
    pub open_files: Option<(rlim_t, rlim_t)>,
}

/// Forks the process of a job. Returns the number of the forked process; the one that will exec is in the report.
///
/// # Errors
/// Of fork(2).
pub fn launch(it: Launch) -> io::Result<Pid> {
    // SAFETY: the keeper has one thread (see the module's text).
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let Err(failure) = prepare_and_exec(it);
            report_failure(&failure);
            exit(127);
        }
    }
}

/// Without running anything that was meant for the keeper's own end.
fn exit(code: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) }
}

fn at(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: `sys::arrange` has put a descriptor there, which stays open until exec or exit.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

fn prepare_and_exec(it: Launch) -> Result<Infallible, Failure> {
    let Launch { task, place, stdio, terminal, gate, report, open_files } = it;
    let place = arrange(place, stdio, gate, report).map_err(|e| Failure::os("arranging descriptors", &e))?;
    sys::reset_signals();
    umask(Mode::from_bits_truncate(0o022));
    if let Some((soft, hard)) = open_files {
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard)
            .map_err(|e| Failure::os("limiting open files", &e.into()))?;
    }

    let there = !place.is_host();
    let on_host = task.user.as_deref().filter(|_| task.host_user || !there);
    let mut account = on_host.map(users::on_host).transpose()?;
    if let Some(fib) = task.fib {
        place::set_fib(fib)?;
    }
    let explicit_cwd = matches!(place, Here::Host(Some(_)));
    // Asked here: a jail may be told another release (osrelease).
    let homes_of_users_only = sys::homes_of_users_only();
    let fork_again = enter(place)?;
    if let (None, Some(name)) = (&account, task.user.as_deref()) {
        account = Some(users::inside(name)?);
    }
    let user = account.clone();
    if account.is_none() && task.clean_env {
        let root = if there { users::inside("root") } else { users::on_host("root") };
        account = Some(root.unwrap_or_else(|_| Account::root()));
    }

    become_leader(fork_again)?;
    if terminal {
        sys::take_terminal().map_err(|e| Failure::os("taking the terminal", &e))?;
    }
    say(b"S").map_err(|e| Failure::os("reporting to the keeper", &e))?;
    wait_at_gate();

    #[cfg(target_os = "freebsd")]
    {
        if task.clean_env {
            super::login::clean_environment();
        }
        if let (Some(account), None) = (&account, &user) {
            super::login::apply(account, false)?;
        }
    }
    if let Some(user) = &user {
        users::become_user(user)?;
    }
    let home = if homes_of_users_only { &user } else { &account };
    if let (true, false, Some(account)) = (task.clean_env, explicit_cwd, home) {
        let moved = std::env::set_current_dir(&account.home);
        // Root's home may be missing in a bare template, and nobody asked for it.
        if let (Err(e), Some(_)) = (moved, &user) {
            return Err(Failure::os(format!("chdir {}", account.home.display()), &e));
        }
    }
    // On FreeBSD it has been emptied, and the login class has added its own.
    let empty = task.clean_env && cfg!(not(target_os = "freebsd"));
    let environment = users::environment(std::env::vars_os(), empty, account.as_ref(), &task.env);
    Err(exec(&task.argv, &environment))
}

/// Moves the wanted descriptors to where they belong and closes all others. Returns the place with its descriptors' new numbers.
fn arrange(place: Here, stdio: [OwnedFd; 3], gate: OwnedFd, report: OwnedFd) -> io::Result<Here> {
    let mut wanted: Vec<BorrowedFd<'_>> = stdio.iter().map(AsFd::as_fd).collect();
    wanted.extend([gate.as_fd(), report.as_fd()]);
    #[cfg(target_os = "linux")]
    if let Here::Namespaces(fds) = &place {
        wanted.extend(fds.iter().map(AsFd::as_fd));
    }
    let result = sys::arrange(&wanted);
    // The numbers now mean something else, or may: the old owners must not close them.
    std::mem::forget((stdio, gate, report));
    #[cfg(target_os = "linux")]
    if let Here::Namespaces(old) = place {
        use std::os::fd::FromRawFd;
        let new = (REPORT + 1..).take(old.len());
        std::mem::forget(old);
        result?;
        // SAFETY: `sys::arrange` has put the namespaces there, and nobody else owns those numbers.
        return Ok(Here::Namespaces(new.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()));
    }
    result.map(|()| place)
}

/// Enters the place. Returns whether another fork is needed to be in it.
fn enter(place: Here) -> Result<bool, Failure> {
    match place {
        Here::Host(cwd) => {
            let cwd = cwd.unwrap_or_else(|| "/".into());
            std::env::set_current_dir(&cwd)
                .map_err(|e| Failure::os(format!("chdir {}", cwd.display()), &e))?;
            Ok(false)
        }
        #[cfg(target_os = "linux")]
        Here::Namespaces(fds) => place::enter_namespaces(fds),
        #[cfg(target_os = "freebsd")]
        Here::Jail(jid) => {
            place::enter_jail(jid)?;
            Ok(false)
        }
    }
}

/// Goes on as the process that will exec, leader of a new session.
fn become_leader(fork_again: bool) -> Result<(), Failure> {
    let mut me = Some(std::process::id().cast_signed());
    #[cfg(target_os = "linux")]
    if fork_again {
        me = match place::fork_sibling()? {
            Some(sibling) => {
                // Our number for it is the keeper's number; its own one is not.
                announce(sibling)?;
                exit(0)
            }
            None => None,
        };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = fork_again;
    if let Some(me) = me.take() {
        announce(me)?;
    }
    setsid().map_err(|e| Failure::os("setsid", &e.into()))?;
    Ok(())
}

fn announce(pid: i32) -> Result<(), Failure> {
    let mut record = vec![b'P'];
    record.extend_from_slice(&pid.to_le_bytes());
    say(&record).map_err(|e| Failure::os("reporting to the keeper", &e))
}

fn say(record: &[u8]) -> io::Result<()> {
    nix::unistd::write(at(REPORT), record)?;
    Ok(())
}

fn report_failure(failure: &Failure) {
    let mut failure = failure.clone();
    // Below 512 bytes, the least PIPE_BUF there is (FreeBSD has it so).
    let cut =
        failure.message.char_indices().map(|(at, _)| at).take_while(|at| *at <= 300).last().unwrap_or(0);
    if failure.message.len() > 300 {
        failure.message.truncate(cut);
        failure.message.push('…');
    }
    let Ok(json) = serde_json::to_vec(&failure) else { return };
    let Ok(length) = u32::try_from(json.len()) else { return };
    let mut record = vec![b'E'];
    record.extend_from_slice(&length.to_le_bytes());
    record.extend_from_slice(&json);
    // If the keeper is gone nobody is left to be told.
    let _ = say(&record);
}

fn wait_at_gate() {
    let mut byte = [0];
    loop {
        match nix::unistd::read(at(GATE), &mut byte) {
            Ok(1) => return,
            Err(nix::Error::EINTR) => {}
            _ => exit(126),
        }
    }
}

unsafe extern "C" {
    /// environ(7).
    static mut environ: *const *const libc::c_char;
}

/// execvp(3) with an environment, along the PATH of that environment. Returns only if it failed.
fn exec(argv: &[String], environment: &BTreeMap<OsString, OsString>) -> Failure {
    let what = argv.first().map_or("", String::as_str);
    let nul = |_| Failure::new(format!("exec {what}: a NUL byte in the command or its environment"));
    let arguments = match argv.iter().map(|a| CString::new(a.as_bytes())).collect::<Result<Vec<_>, _>>() {
        Ok(arguments) => arguments,
        Err(e) => return nul(e),
    };
    let variables = environment.iter().map(|(key, value)| {
        let mut text = key.as_bytes().to_vec();
        text.push(b'=');
        text.extend_from_slice(value.as_bytes());
        CString::new(text)
    });
    let variables = match variables.collect::<Result<Vec<_>, _>>() {
        Ok(variables) => variables,
        Err(e) => return nul(e),
    };
    let mut envp: Vec<*const libc::c_char> = variables.iter().map(|v| v.as_ptr()).collect();
    envp.push(ptr::null());
    // SAFETY: one thread, so nobody reads the environment meanwhile; `envp` and what it points to live until the process is
    // another program or exits.
    unsafe {
        environ = envp.as_ptr();
    }
    let error = match nix::unistd::execvp(arguments.first().map_or(c"", CString::as_c_str), &arguments) {
        Ok(never) => match never {},
        Err(e) => e,
    };
    let failure = Failure::os(format!("exec {what}"), &error.into());
    // The environment is about to go: leave nothing that points there.
    // SAFETY: as above; a null environment is an empty one.
    unsafe {
        environ = ptr::null();
    }
    if error == nix::Error::ENOENT && !what.contains('/') {
        let path = environment.get(std::ffi::OsStr::new("PATH")).map(|p| p.to_string_lossy().into_owned());
        return failure
            .hint(format!("it was looked for in {}", path.as_deref().unwrap_or("the default PATH")));
    }
    failure
}

/// What has been read of a report.
#[derive(Debug, Default)]
pub struct Report {
    bytes: Vec<u8>,
    /// The process that will exec.
    pub pid: Option<i32>,
    /// Whether it leads its session and waits.
    pub ready: bool,
    /// Why it does not go on.
    pub failure: Option<Failure>,
}

impl Report {
    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        loop {
            let taken = match self.bytes.as_slice() {
                [b'P', a, b, c, d, ..] => {
                    self.pid = Some(i32::from_le_bytes([*a, *b, *c, *d]));
                    5
                }
                [b'S', ..] => {
                    self.ready = true;
                    1
                }
                [b'E', a, b, c, d, rest @ ..] => {
                    let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
                    let Some(json) = rest.get(..length) else { return };
                    self.failure = Some(
                        serde_json::from_slice(json)
                            .unwrap_or_else(|_| Failure::new("the process failed before its exec")),
                    );
                    5 + length
                }
                _ => return,
            };
            self.bytes.drain(..taken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_understood_in_pieces() {
        let failure = Failure::new("no").hint("yes");
        let json = serde_json::to_vec(&failure).unwrap();
        let mut stream = vec![b'S', b'P'];
        stream.extend(77_i32.to_le_bytes());
        stream.push(b'E');
        stream.extend(u32::try_from(json.len()).unwrap().to_le_bytes());
        stream.extend(&json);
        for size in 1..stream.len() {
            let mut report = Report::default();
            stream.chunks(size).for_each(|piece| report.push(piece));
            assert_eq!((report.pid, report.ready, report.failure.as_ref()), (Some(77), true, Some(&failure)));
        }
    }

    #[test]
    fn half_a_report_says_nothing() {
        let mut report = Report::default();
        report.push(b"P\x01\x02");
        assert_eq!((report.pid, report.ready), (None, false));
        assert!(report.failure.is_none());
    }
}
