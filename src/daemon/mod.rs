//! The daemon: decides, and may die at any time.
//!
//! - [`clock`] is its time. [`driver`] runs the engine: commits what it says, has the effects, feeds back what came of them.
//! - [`names`] serves DNS, [`leases`] serves DHCP, both from what the engine says and nothing else.
//! - [`api`] answers on a Unix socket; the CLI uses nothing else.

pub mod api;
pub mod clock;
pub mod driver;
pub mod leases;
pub mod names;
mod runtime;
mod sweep;

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::host::{Failure, Host};
use crate::lifecycle::engine::Settings;
use crate::store::{State, Store};
use api::{Api, Rights};
use driver::Driver;
use names::Zones;
use runtime::Services;

/// How long a daemon that ends lets those finish that it is answering, in DNS and in the API: the next one cannot begin before.
const GRACE: Duration = Duration::from_millis(300);

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
    api::copy::sweep(dir);
    install_program(&program_path(dir))?;
    let (mut store, state) = open_store(dir)?;
    clock::begin(store.last_at().map_err(|e| Failure::new(e.to_string()))?);
    if let Err(error) = store.shorten_addresses(clock::now(), &state) {
        tracing::warn!(%error, "the store's history could not be made short");
    }
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
    let rights = rights(options)?;
    let listener = listen(dir, &rights)?;
    let api = Api::new(handle.clone(), host_name, dir.clone(), rights, Arc::clone(&zones));
    // A daemon whose engine has fallen is of no use to anybody; it ends, and the next one goes on.
    let ended = api.ended();
    let engine = std::thread::spawn(move || {
        let _told = Told(ended);
        driver.run();
    });
    runtime.spawn(sweep::run(dir.clone(), handle.clone()));
    let served = runtime.block_on(async {
        let listener = tokio::net::UnixListener::from_std(listener)?;
        api.clone().serve(listener, interrupted()).await
    });
    api.end_commands();
    handle.end();
    // What is under way is journalled; the next daemon takes it up.
    let fell = engine.join().is_err();
    let _ = std::fs::remove_file(socket_path(dir));
    runtime.block_on(zones.end());
    runtime.shutdown_background();
    if fell {
        return Err(Failure::new("Warren itself failed: its engine fell; the lines above say where")
            .hint("what runs goes on, and the next daemon takes it up; please report it"));
    }
    served.map_err(|e| Failure::os("serving the API", &e))
}

/// The store. On a full disk it is waited for, as every commit is: a daemon that ended would be missed once there is room.
fn open_store(dir: &Path) -> Result<(Store, State), Failure> {
    let mut told = false;
    loop {
        match Store::open(&store_path(dir)) {
            Err(error) if is_full(dir) => {
                if !told {
                    tracing::error!(%error, "the disk is full: the store is opened when there is room");
                }
                told = true;
                std::thread::sleep(driver::COMMIT_RETRY);
            }
            other => return other.map_err(|error| Failure::new(error.to_string())),
        }
    }
}

/// Whether there is no room for the few pages that opening a store may write.
fn is_full(dir: &Path) -> bool {
    const ENOUGH: u64 = 256 << 10;
    #[allow(clippy::useless_conversion, reason = "the types of statvfs(3) differ between systems")]
    nix::sys::statvfs::statvfs(dir).is_ok_and(|disk| {
        u64::from(disk.blocks_available()).saturating_mul(u64::from(disk.fragment_size())) < ENOUGH
    })
}

/// Tells of the end of a thread, however it ends.
struct Told(Arc<tokio::sync::Notify>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.notify_one();
    }
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

/// Holds the state directory against daemons, until it is dropped.
///
/// # Errors
/// When a daemon has it.
pub fn lock(dir: &Path) -> Result<nix::fcntl::Flock<std::fs::File>, Failure> {
    let path = dir.join("daemon.lock");
    // Who may open it may lock it, and keep every daemon out.
    let file = std::fs::File::options().create(true).append(true).mode(0o600).open(&path).and_then(|file| {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        Ok(file)
    });
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

fn listen(dir: &Path, rights: &Rights) -> Result<std::os::unix::net::UnixListener, Failure> {
    let path = socket_path(dir);
    // The lock says that whoever listened there is dead.
    let _ = std::fs::remove_file(&path);
    let failed = |e: std::io::Error| Failure::os(format!("listening on {}", path.display()), &e);
    // Closed to all others until its group is set.
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = std::os::unix::net::UnixListener::bind(&path);
    nix::sys::stat::umask(before);
    let listener = listener.map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let (group, mut mode) = rights.socket();
    if let Some(group) = group
        && let Err(error) = std::os::unix::fs::chown(&path, None, Some(group))
    {
        // An owner who is not of the group, or not of the whole machine. The door asks everybody in any case.
        tracing::info!(%error, group, "the socket cannot be given to its group, so all may connect; others are still refused");
        mode = 0o666;
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok(listener)
}

fn rights(options: &Options) -> Result<Rights, Failure> {
    let group = |name: &Option<String>| -> Result<Option<u32>, Failure> {
        let Some(name) = name else { return Ok(None) };
        match nix::unistd::Group::from_name(name) {
            Ok(Some(group)) => Ok(Some(group.gid.as_raw())),
            Ok(None) if name.parse::<u32>().is_ok() => Ok(name.parse().ok()),
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
/// who have it mounted. On a full disk the old one must do: what runs is more important than its latest responder.
fn install_program(dir: &Path) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::os(format!("installing the program in {}", dir.display()), &e);
    std::fs::create_dir_all(dir).map_err(failed)?;
    let exe = std::env::current_exe().map_err(failed)?;
    let (new, place) = (dir.join(".new"), dir.join("warren"));
    if same_program(&exe, &place) {
        return Ok(());
    }
    let _ = std::fs::remove_file(&new);
    let linked = std::fs::hard_link(&exe, &new).or_else(|_| std::fs::copy(&exe, &new).map(drop));
    match linked.and_then(|()| std::fs::rename(&new, &place)) {
        Err(error) if place.exists() => {
            let _ = std::fs::remove_file(&new);
            tracing::warn!(%error, "the program could not be installed; new instances get the one that is there");
            Ok(())
        }
        other => other.map_err(failed),
    }
}

/// Whether a file is the program that runs: the same file, or the same bytes.
fn same_program(exe: &Path, place: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(a), Ok(b)) = (std::fs::metadata(exe), std::fs::symlink_metadata(place)) else { return false };
    if (a.dev(), a.ino()) == (b.dev(), b.ino()) {
        return true;
    }
    a.len() == b.len() && b.is_file() && same_bytes(exe, place).unwrap_or(false)
}

fn same_bytes(one: &Path, other: &Path) -> std::io::Result<bool> {
    use std::io::Read as _;
    let (mut one, mut other) = (std::fs::File::open(one)?, std::fs::File::open(other)?);
    let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let count = one.read(&mut a)?;
        if count == 0 {
            return Ok(true);
        }
        other.read_exact(&mut b[..count])?;
        if a[..count] != b[..count] {
            return Ok(false);
        }
    }
}
