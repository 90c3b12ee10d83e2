//! The daemon: decides, and may die at any time.
//!
//! - [`driver`] runs the engine: commits what it says, has the effects, feeds back what came of them.
//! - [`names`] serves DNS, [`leases`] serves DHCP, both from what the engine says and nothing else.
//! - [`api`] answers on a Unix socket; the CLI uses nothing else.

pub mod api;
pub mod driver;
pub mod leases;
pub mod names;
mod runtime;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::host::{Failure, Host};
use crate::lifecycle::engine::Settings;
use crate::store::{Record, Store};
use api::{Api, Rights};
use driver::Driver;
use names::Zones;
use runtime::Services;

/// What a daemon is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where everything is kept.
    pub state_dir: PathBuf,
    /// How many operations may be under way at once.
    pub jobs: usize,
    /// The group whose members may do everything.
    pub group: Option<String>,
    /// The group whose members may look.
    pub read_group: Option<String>,
}

/// The API's socket.
#[must_use]
pub fn socket_path(state_dir: &Path) -> PathBuf {
    state_dir.join("api.sock")
}

/// The store.
#[must_use]
pub fn store_path(state_dir: &Path) -> PathBuf {
    state_dir.join("warren.db")
}

/// The directory of the clones' roots.
#[must_use]
pub fn roots_path(state_dir: &Path) -> PathBuf {
    state_dir.join("roots")
}

/// The directory that holds the executable for `@warren`.
#[must_use]
pub fn program_path(state_dir: &Path) -> PathBuf {
    state_dir.join("program")
}

/// Runs a daemon on a host until it is asked to end. `host_name` is what `info` says.
///
/// # Errors
/// When another daemon has the state directory, or the store or the socket cannot be had.
pub fn run(options: &Options, host: Arc<dyn Host>, host_name: &'static str) -> Result<(), Failure> {
    let dir = &options.state_dir;
    // Held until the process ends, however it ends.
    let _lock = lock(dir)?;
    install_program(&program_path(dir))?;
    let (mut store, state) = Store::open(&store_path(dir)).map_err(|e| Failure::new(e.to_string()))?;
    let addresses: Vec<Record> =
        state.ipam.snapshot().into_iter().map(|change| Record::Address { change }).collect();
    store.rewrite_addresses(driver::now(), &addresses).map_err(|e| Failure::new(e.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::os("starting threads", &e))?;
    let settings = Settings { roots: roots_path(dir), program: program_path(dir), jobs: options.jobs.max(1) };
    let zones = Arc::new(Zones::default());
    let (for_runtime, tokio) = (Arc::clone(&zones), runtime.handle().clone());
    let make = |handle: &driver::Handle| -> Box<dyn driver::Runtime> {
        Box::new(Services::new(for_runtime, handle.clone(), tokio))
    };
    let (driver, handle) = Driver::new(store, state, host, settings, make);
    let listener = listen(dir, options)?;
    let rights = rights(options)?;
    let api = Api::new(handle.clone(), host_name, dir.clone(), rights, zones);
    let engine = std::thread::spawn(move || driver.run());
    let served = runtime.block_on(async {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        api.serve(listener, interrupted()).await
    });
    handle.end();
    // What is under way is journalled; the next daemon takes it up.
    let _ = engine.join();
    let _ = std::fs::remove_file(socket_path(dir));
    runtime.shutdown_background();
    served.map_err(|e| Failure::os("serving the API", &e))
}

/// SIGINT or SIGTERM: the daemon ends, what runs goes on.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
}

fn lock(dir: &Path) -> Result<nix::fcntl::Flock<std::fs::File>, Failure> {
    let path = dir.join("daemon.lock");
    let file = std::fs::File::options().create(true).append(true).open(&path);
    let file = file.map_err(|e| Failure::os(format!("opening {}", path.display()), &e))?;
    nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        match errno {
            nix::errno::Errno::EWOULDBLOCK => {
                Failure::new(format!("another daemon runs for {}", dir.display()))
                    .hint("`warren info` asks it; `warren shutdown` ends it")
            }
            errno => Failure::os(format!("locking {}", path.display()), &errno.into()),
        }
    })
}

fn listen(dir: &Path, options: &Options) -> Result<std::os::unix::net::UnixListener, Failure> {
    let path = socket_path(dir);
    // The lock says that whoever listened there is dead.
    let _ = std::fs::remove_file(&path);
    let failed = |e: std::io::Error| Failure::os(format!("listening on {}", path.display()), &e);
    let listener = std::os::unix::net::UnixListener::bind(&path).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    // With groups everybody may connect; who may do what is asked of the kernel at each request.
    let mode = if options.group.is_some() || options.read_group.is_some() { 0o666 } else { 0o600 };
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok(listener)
}

fn rights(options: &Options) -> Result<Rights, Failure> {
    let group = |name: &Option<String>| -> Result<Option<u32>, Failure> {
        let Some(name) = name else { return Ok(None) };
        match nix::unistd::Group::from_name(name) {
            Ok(Some(group)) => Ok(Some(group.gid.as_raw())),
            Ok(None) => Err(Failure::new(format!("there is no group `{name}`"))),
            Err(errno) => Err(Failure::os(format!("looking up the group `{name}`"), &errno.into())),
        }
    };
    Ok(Rights {
        owner: nix::unistd::geteuid().as_raw(),
        group: group(&options.group)?,
        read_group: group(&options.read_group)?,
    })
}

/// Puts the running executable where instances can mount it from: a hard link, or a copy across file systems. The old one stays for those
/// who have it mounted.
fn install_program(dir: &Path) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::os(format!("installing the program in {}", dir.display()), &e);
    std::fs::create_dir_all(dir).map_err(failed)?;
    let exe = std::env::current_exe().map_err(failed)?;
    let (new, place) = (dir.join(".new"), dir.join("warren"));
    let _ = std::fs::remove_file(&new);
    if std::fs::hard_link(&exe, &new).is_err() {
        std::fs::copy(&exe, &new).map_err(failed)?;
    }
    std::fs::rename(&new, &place).map_err(failed)
}
