//! Getting into the lab: starting it if need be, and moving the process into its namespaces.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::client::{Client, Greeting, absent};
use super::failure::Context;
use super::proto::Request;
use super::{layout, sys};
use crate::host::Failure;

/// How long a lab may take to come up or go down.
const PATIENCE: Duration = Duration::from_secs(20);

/// The lab of a directory, started if none answers. Gives a connection to its lab-kernel.
pub fn start(state_dir: &Path) -> Result<(Client, Greeting), Failure> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(met) = Client::connect(state_dir)? {
            return Ok(met);
        }
        if Instant::now() > end {
            return Err(Failure::new(format!(
                "wait for the lab-kernel at {}: nobody answers there",
                layout::socket(state_dir).display()
            )));
        }
        boot(state_dir)?;
        // If another lab of this directory is just ending or just starting, boot() left it to that one.
        if let Some(met) = Client::connect(state_dir)? {
            return Ok(met);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs `warren lab-kernel`, which returns when the lab is up.
fn boot(state_dir: &Path) -> Result<(), Failure> {
    let exe = std::env::current_exe().doing(|| "find my own program")?;
    let output = Command::new(exe)
        .arg("lab-kernel")
        .arg("--state-dir")
        .arg(state_dir)
        .stdin(Stdio::null())
        .output()
        .doing(|| "start the lab-kernel")?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::new(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Moves this process into the lab's namespaces, as its host. Returns in a child, which is in the pid namespace too; the
/// process that called waits for it, passes signals on and ends as it ends. Nothing happens if it is inside already.
///
/// Call it at the very start of `main`: it must have a single thread. Starts the lab if there is none.
///
/// # Errors
/// Namespaces or TAP devices are forbidden, with what to do about it; or the lab-kernel cannot be reached.
pub fn enter(state_dir: &Path) -> Result<(), Failure> {
    let single = sys::SingleThread::check().doing(|| "enter the lab")?;
    let (client, lab) = start(state_dir)?;
    drop(client);
    let mine = std::fs::metadata("/proc/self/ns/pid").doing(|| "find my pid namespace")?.ino();
    if mine == lab.pid_namespace {
        return Ok(());
    }
    let mut kinds =
        libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWNET | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    if lab.user_namespace {
        kinds |= libc::CLONE_NEWUSER;
    }
    let here = std::env::current_dir();
    sys::enter(lab.process1.as_fd(), kinds).doing(|| "enter the lab's namespaces")?;
    if lab.user_namespace && !nix::unistd::geteuid().is_root() {
        // The machine's root has entered an ordinary user's lab, where it has no number: it becomes that user.
        let root = (nix::unistd::Gid::from_raw(0), nix::unistd::Uid::from_raw(0));
        nix::unistd::setresgid(root.0, root.0, root.0).doing(|| "become the lab's root group")?;
        nix::unistd::setresuid(root.1, root.1, root.1).doing(|| "become the lab's root")?;
    }
    // The mount namespace's root became ours and the working directory with it; paths are the same there.
    if let Ok(here) = here {
        let _ = std::env::set_current_dir(here);
    }
    become_child(single)
}

/// Forks; the parent never returns.
fn become_child(single: sys::SingleThread) -> Result<(), Failure> {
    let mut signals = SigSet::all();
    // The first two cannot be caught; faults belong to the thread that caused them.
    for own in
        [Signal::SIGKILL, Signal::SIGSTOP, Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL]
    {
        signals.remove(own);
    }
    let before = SigSet::thread_get_mask().doing(|| "read the signal mask")?;
    signals.thread_block().doing(|| "block signals")?;
    let (alive, parent) = std::io::pipe().doing(|| "make a pipe")?;
    match single.fork().doing(|| "fork into the lab's pid namespace")? {
        Some(child) => stand_for(Pid::from_raw(child), &signals, &parent),
        None => {
            // To kill the process that was started is to kill this one, SIGKILL included.
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
                .doing(|| "set the death signal")?;
            // The parent is outside the pid namespace, so getppid(2) says 0 whether it lives or not; its end of a pipe tells.
            drop(parent);
            if sys::ends_within(alive.as_fd(), 0).doing(|| "look after the parent")? {
                std::process::exit(1);
            }
            before.thread_set_mask().doing(|| "restore the signal mask")?;
            Ok(())
        }
    }
}

/// The parent's life: passes signals on, waits, and ends as the child ended. `_alive` is open as long as it lives.
fn stand_for(child: Pid, signals: &SigSet, _alive: &std::io::PipeWriter) -> ! {
    let Ok(incoming) = SignalFd::new(signals) else { std::process::exit(1) };
    loop {
        let Ok(Some(signal)) = incoming.read_signal() else { continue };
        let number = Signal::try_from(signal.ssi_signo.cast_signed());
        match number {
            Ok(Signal::SIGCHLD) => match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => std::process::exit(code),
                Ok(WaitStatus::Signaled(_, signal, _)) => end_by(signal),
                Err(nix::errno::Errno::ECHILD) => std::process::exit(1),
                _ => {}
            },
            // What the terminal sends goes to the whole process group, the child included.
            Ok(_) if signal.ssi_code > 0 => {}
            Ok(number) => {
                let _ = nix::sys::signal::kill(child, number);
            }
            Err(_) => {}
        }
    }
}

/// Ends this process by a signal, as the child was ended, but without a core of its own.
fn end_by(signal: Signal) -> ! {
    let _ = rustix::process::setrlimit(
        rustix::process::Resource::Core,
        rustix::process::Rlimit { current: Some(0), maximum: Some(0) },
    );
    let mut mask = SigSet::empty();
    mask.add(signal);
    let _ = mask.thread_unblock();
    let _ = nix::sys::signal::raise(signal);
    std::process::exit(128 + signal as i32)
}

/// `warren lab exec [--outside] -- CMD`: runs a command on the lab's host side, or in the namespace that stands for the
/// world outside. Returns only if it cannot.
pub fn exec(state_dir: &Path, argv: &[OsString], outside: bool) -> Failure {
    match exec_inner(state_dir, argv, outside) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn exec_inner(
    state_dir: &Path,
    argv: &[OsString],
    outside: bool,
) -> Result<std::convert::Infallible, Failure> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(Failure::new("no command was given"));
    };
    enter(state_dir)?;
    if outside {
        let (client, _) = Client::connect(state_dir)?.ok_or_else(|| absent(state_dir))?;
        let [namespace] = client.fetch(&Request::Outside)?;
        sys::enter(namespace.as_fd(), libc::CLONE_NEWNET).doing(|| "enter the outside of the lab")?;
    }
    let error = Command::new(program).args(arguments).exec();
    Err(Failure::os(format!("run {}", program.display()), &error))
}

/// Switches a lab off and waits until nothing of it is left. Whether there was one.
pub fn shutdown(state_dir: &Path) -> Result<bool, Failure> {
    let path = layout::lock(state_dir);
    let lab = Client::connect(state_dir)?;
    if let Some((client, _)) = &lab {
        // The answer may be lost in the fall.
        let _ = client.order(&Request::Shutdown);
    }
    let Ok(lock) = std::fs::File::open(&path) else { return Ok(lab.is_some()) };
    let end = Instant::now() + PATIENCE;
    let mut lock = lock;
    loop {
        match nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusiveNonblock) {
            Ok(_) => return Ok(lab.is_some()),
            Err((again, nix::errno::Errno::EWOULDBLOCK)) if Instant::now() < end => {
                lock = again;
                std::thread::sleep(Duration::from_millis(10));
            }
            Err((_, error)) => return Err(error).doing(|| "wait for the end of the lab"),
        }
    }
}

/// Serves `warren lab-kernel …`, `warren jail-init …` and `warren lab …`, given the arguments after the program's name. `None`
/// if they speak of something else.
#[must_use]
pub fn dispatch(arguments: &[OsString]) -> Option<std::process::ExitCode> {
    let (verb, rest) = arguments.split_first()?;
    Some(match verb.to_str()? {
        "lab-kernel" => super::kernel::main(rest),
        "jail-init" => super::jail_init::run(rest),
        "lab" => main(rest),
        _ => return None,
    })
}

/// `warren lab --state-dir DIR (start|stop|exec [--outside] -- CMD…)`.
fn main(arguments: &[OsString]) -> std::process::ExitCode {
    use std::process::ExitCode;
    let usage = || {
        eprintln!("usage: warren lab --state-dir DIR start|stop|exec [--outside] -- COMMAND [ARGUMENT…]");
        ExitCode::from(2)
    };
    let Some((flag, [dir, verb, rest @ ..])) = arguments.split_first() else { return usage() };
    if flag != "--state-dir" {
        return usage();
    }
    let state_dir = PathBuf::from(dir);
    let how = match verb.to_str() {
        Some("start") if rest.is_empty() => start(&state_dir).map(|_| ()),
        Some("stop") if rest.is_empty() => shutdown(&state_dir).map(|_| ()),
        Some("exec") => {
            let outside = rest.first().is_some_and(|word| word == "--outside");
            let rest = rest.get(usize::from(outside)..).unwrap_or_default();
            match rest.split_first() {
                Some((dashes, argv)) if dashes == OsStr::new("--") && !argv.is_empty() => {
                    Err(exec(&state_dir, argv, outside))
                }
                _ => return usage(),
            }
        }
        _ => return usage(),
    };
    match how {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
