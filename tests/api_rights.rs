//! Who may use the API: real users and groups at the socket of a daemon on the sim.
//!
//! Needs root, to be somebody else: a thread that is, since Linux keeps credentials by thread and looks at them in connect(2). FreeBSD
//! keeps them by process, so there the whole test is somebody else for a moment, and one test runs at a time.
#![cfg(any(target_os = "linux", target_os = "freebsd"))]

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Numbers that no user database knows: the kernel's word is all there is.
const STRANGER: u32 = 61_001;
const READER: u32 = 61_002;
const WRITER: u32 = 61_003;
const READ_GROUP: u32 = 62_002;
const GROUP: u32 = 62_003;

/// Held by a test from its first line to its last.
fn possible() -> Option<MutexGuard<'static, ()>> {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if nix::unistd::geteuid().is_root() {
        return Some(alone);
    }
    let text = "THIS TEST DID NOT RUN: root missing";
    assert!(std::env::var_os("CI").is_none(), "{text}");
    eprintln!("\n*** {text} ***\n");
    None
}

struct Daemon {
    dir: tempfile::TempDir,
    child: Child,
}

/// Who asks: a user, its group, and its other groups.
#[derive(Debug, Clone, Copy)]
struct Who(u32, u32, &'static [u32]);

impl Daemon {
    fn start(options: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("wapi").tempdir_in("/tmp").unwrap();
        // Others may pass through, as through /var/db.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let state = dir.path().join("state");
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_warren"))
            .args(["--state-dir", state.to_str().unwrap(), "daemon", "--host", "sim"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let daemon = Self { dir, child };
        let end = Instant::now() + Duration::from_secs(30);
        while UnixStream::connect(daemon.socket()).is_err() {
            let log = || std::fs::read_to_string(daemon.dir.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "the daemon does not answer:\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        // It can be connected to a moment before it has its group and mode.
        while daemon.ask(Who(0, 0, &[]), "GET", "/v1/info").0 != "200" {
            assert!(Instant::now() < end, "the daemon does not let root in");
            std::thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn socket(&self) -> PathBuf {
        self.state().join("api.sock")
    }

    /// Asks as somebody; gives the status, 000 when the socket cannot be had, and the body.
    fn ask(&self, who: Who, method: &str, path: &str) -> (String, String) {
        let ask = format!(
            "{method} {path} HTTP/1.1\r\nHost: w\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
        );
        let socket = self.socket();
        let answer = become_and(who, move || {
            let mut stream = connect(&socket)?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            stream.write_all(ask.as_bytes())?;
            let mut answer = Vec::new();
            let mut piece = [0; 4096];
            loop {
                if let Some(at) = answer.windows(4).position(|end| end == b"\r\n\r\n") {
                    match length(&answer[..at]) {
                        Some(length) if answer.len() >= at + 4 + length => break,
                        Some(_) => {}
                        // Events go on, and say no length: the head is enough, and what comes right behind it.
                        None => {
                            stream.set_read_timeout(Some(Duration::from_millis(300)))?;
                            let _ = stream.read_to_end(&mut answer);
                            break;
                        }
                    }
                }
                match stream.read(&mut piece)? {
                    0 => break,
                    count => answer.extend_from_slice(&piece[..count]),
                }
            }
            Ok::<_, std::io::Error>(answer)
        });
        let text = String::from_utf8_lossy(&answer.unwrap_or_default()).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
        (head.split(' ').nth(1).unwrap_or("000").to_owned(), body.to_owned())
    }
}

/// How long a body is, as its head says.
fn length(head: &[u8]) -> Option<usize> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
}

/// Does something as somebody else.
#[cfg(target_os = "freebsd")]
fn become_and<T>(Who(uid, gid, groups): Who, act: impl FnOnce() -> T) -> T {
    use nix::unistd::{Gid, Uid, getgroups, setegid, seteuid, setgroups};
    let before = getgroups().unwrap();
    // The first of them is the effective one (setgroups(2)).
    let wanted: Vec<Gid> = [gid].iter().chain(groups).map(|g| Gid::from_raw(*g)).collect();
    setgroups(&wanted).unwrap();
    setegid(Gid::from_raw(gid)).unwrap();
    seteuid(Uid::from_raw(uid)).unwrap();
    let done = act();
    seteuid(Uid::from_raw(0)).unwrap();
    setegid(Gid::from_raw(0)).unwrap();
    setgroups(&before).unwrap();
    done
}

/// Does something as somebody else.
#[cfg(target_os = "linux")]
fn become_and<T: Send + 'static>(Who(uid, gid, groups): Who, act: impl FnOnce() -> T + Send + 'static) -> T {
    use rustix::process::{Gid, Uid};
    let groups: Vec<Gid> = groups.iter().map(|g| Gid::from_raw(*g)).collect();
    let changed = std::thread::spawn(move || {
        rustix::thread::set_thread_groups(&groups).unwrap();
        rustix::thread::set_thread_gid(Gid::from_raw(gid)).unwrap();
        rustix::thread::set_thread_uid(Uid::from_raw(uid)).unwrap();
        act()
    });
    changed.join().unwrap()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Connects as soon as there is a place to wait in: FreeBSD refuses meanwhile, Linux waits.
fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    for _ in 0..50 {
        match UnixStream::connect(socket) {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
    UnixStream::connect(socket)
}

/// How many descriptors a process has.
fn descriptors(pid: u32) -> usize {
    if cfg!(target_os = "linux") {
        return std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    }
    let listed = Command::new("/usr/bin/fstat").args(["-p", &pid.to_string()]).output().unwrap();
    String::from_utf8_lossy(&listed.stdout).lines().count()
}

/// Every operation of the API with made-up names, from its own description: a new one is tested without being asked.
fn operations(daemon: &Daemon) -> Vec<(String, String)> {
    let (status, body) = daemon.ask(Who(0, 0, &[]), "GET", "/openapi.json");
    assert_eq!(status, "200");
    let described: Value = serde_json::from_str(&body).unwrap();
    let mut all =
        vec![("GET".to_owned(), "/openapi.json".to_owned()), ("GET".to_owned(), "/nowhere".to_owned())];
    for (path, methods) in described["paths"].as_object().unwrap() {
        let path = path.replace("{fabric}", "f").replace("{service}", "s").replace("{name}", "n");
        for method in methods.as_object().unwrap().keys().filter(|m| *m != "parameters") {
            // Last, and only by those who may not: it ends the daemon.
            if path != "/v1/shutdown" {
                all.push((method.to_uppercase(), path.clone()));
            }
        }
    }
    assert!(all.len() > 20, "{all:?}");
    all.push(("POST".to_owned(), "/v1/shutdown".to_owned()));
    all
}

/// What a group that may look gets, though it is a GET: a backup holds every secret.
const NOT_FOR_READERS: &str = "/v1/backup";

#[test]
fn every_operation_asks_who_comes_and_the_groups_are_the_kernels() {
    let Some(_alone) = possible() else { return };
    let (group, read_group) = (GROUP.to_string(), READ_GROUP.to_string());
    let daemon = Daemon::start(&["--group", &group, "--read-group", &read_group]);
    for (method, path) in operations(&daemon) {
        let of = |who| daemon.ask(who, &method, &path);
        let what = format!("{method} {path}");
        let strangers = [Who(STRANGER, STRANGER, &[]), Who(STRANGER, 4, &[5, 6, 7])];
        for stranger in strangers {
            let (status, body) = of(stranger);
            assert_eq!(status, "403", "{what} by {stranger:?}: {body}");
            assert!(body.contains("may not use"), "{what}: {body}");
        }
        let reads = method == "GET" && path != NOT_FOR_READERS;
        for reader in [Who(READER, READ_GROUP, &[]), Who(READER, 9, &[8, READ_GROUP])] {
            let (status, body) = of(reader);
            assert_eq!(status == "403", !reads, "{what} by {reader:?}: {status} {body}");
        }
        if path == "/v1/shutdown" {
            continue;
        }
        for writer in [Who(WRITER, GROUP, &[]), Who(WRITER, 9, &[READ_GROUP, GROUP]), Who(0, 0, &[])] {
            let (status, body) = of(writer);
            assert!(status != "403" && status != "000", "{what} by {writer:?}: {status} {body}");
        }
    }
}

#[test]
fn the_socket_belongs_to_its_group_and_nothing_else_is_open_to_others() {
    let Some(_alone) = possible() else { return };
    let group = GROUP.to_string();
    for (options, gid, mode) in [
        (&["--group", group.as_str()][..], GROUP, 0o660),
        (&["--read-group", &group], GROUP, 0o660),
        (&[], 0, 0o600),
    ] {
        let daemon = Daemon::start(options);
        let meta = std::fs::metadata(daemon.socket()).unwrap();
        assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o777), (0, gid, mode), "{options:?}");
        let (status, _) = daemon.ask(Who(STRANGER, STRANGER, &[]), "GET", "/v1/info");
        assert_eq!(status, "000", "the file's mode alone keeps strangers out, {options:?}");
        if gid != 0 {
            assert_eq!(daemon.ask(Who(WRITER, GROUP, &[]), "GET", "/v1/info").0, "200");
        }
        // The store holds the environments of instances, the log what failed. With groups others may pass through the directory.
        for entry in std::fs::read_dir(daemon.state()).unwrap().flatten() {
            let (name, meta) = (entry.file_name(), entry.metadata().unwrap());
            if name != "api.sock" && !meta.is_dir() {
                assert_eq!(meta.mode() & 0o007, 0, "{name:?} is open to others: {:o}", meta.mode());
            }
        }
    }
}

#[test]
fn a_flood_of_connections_by_one_user_leaves_the_others_their_places() {
    let Some(_alone) = possible() else { return };
    let (group, read_group) = (GROUP.to_string(), READ_GROUP.to_string());
    let daemon = Daemon::start(&["--group", &group, "--read-group", &read_group]);
    // A reader and a stranger open as many connections as they get and ask nothing. The guard is `Door`: without it all are taken,
    // and with a few more the daemon is out of descriptors.
    let flood = |who| {
        let socket = daemon.socket();
        become_and(who, move || (0..400).filter_map(|_| connect(&socket).ok()).collect::<Vec<_>>())
    };
    let floods = [flood(Who(READER, READ_GROUP, &[])), flood(Who(STRANGER, STRANGER, &[]))];
    assert!(floods.iter().all(|flood| !flood.is_empty()));
    assert_eq!(daemon.ask(Who(WRITER, GROUP, &[]), "GET", "/v1/info").0, "200");
    assert_eq!(daemon.ask(Who(0, 0, &[]), "GET", "/v1/info").0, "200");
    let open = descriptors(daemon.child.id());
    assert!(open < 200, "{open} descriptors are open in the daemon");
    drop(floods);
    // When the daemon has seen that they are gone.
    let end = Instant::now() + Duration::from_secs(30);
    while daemon.ask(Who(READER, READ_GROUP, &[]), "GET", "/v1/info").0 != "200" {
        assert!(Instant::now() < end, "places do not come back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks without a pause on every connection it gets, several questions at a time, until it is dropped.
struct Flood {
    answers: Arc<AtomicUsize>,
    connections: Vec<UnixStream>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Flood {
    fn new(connections: Vec<UnixStream>, paths: &[String]) -> Self {
        let answers = Arc::new(AtomicUsize::new(0));
        let ask = |path: &String| format!("GET {path} HTTP/1.1\r\nHost: w\r\n\r\n");
        let all: String = paths.iter().map(ask).collect();
        let threads = connections.iter().map(|connection| {
            let (mut to, mut from) = (connection.try_clone().unwrap(), connection.try_clone().unwrap());
            let (all, count, answers) = (all.clone(), paths.len(), Arc::clone(&answers));
            std::thread::spawn(move || {
                // What came last stands in front of what comes: a head may come in two pieces.
                const KEPT: usize = 8;
                let mut piece = vec![0; KEPT + (1 << 20)];
                while to.write_all(all.as_bytes()).is_ok() {
                    let mut heads = 0;
                    while heads < count {
                        match from.read(&mut piece[KEPT..]) {
                            Ok(read @ 1..) => {
                                let came = &piece[..KEPT + read];
                                let found = came.windows(KEPT + 1).filter(|w| w == b"HTTP/1.1 ").count();
                                piece.copy_within(read..KEPT + read, 0);
                                heads += found;
                                answers.fetch_add(found, Ordering::Relaxed);
                            }
                            _ => return,
                        }
                    }
                }
            })
        });
        let threads = threads.collect();
        Self { answers, threads, connections }
    }

    fn answers(&self) -> usize {
        self.answers.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        for connection in &self.connections {
            let _ = connection.shutdown(std::net::Shutdown::Both);
        }
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

// What bounds it: a user has 64 places, each has one question under way, and the engine takes questions and orders as they come.
#[test]
fn a_flood_of_questions_by_one_user_leaves_the_others_their_turn() {
    let Some(_alone) = possible() else { return };
    let read_group = READ_GROUP.to_string();
    let daemon = Daemon::start(&["--read-group", &read_group]);
    let file = daemon.dir.path().join("warren.toml");
    let text = "name = \"f\"\n[networks.n]\nipv4 = \"10.1.0.0/24\"\n[templates.h]\nhost = true\n[services.s]\ntemplate = \"h\"\nnetworks = [\"n\"]\nreplicas = 40\ncommand = \"nginx\"\n";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let ask = |words: &[&str]| {
        let state = daemon.state();
        let mut owner = Command::new(env!("CARGO_BIN_EXE_warren"));
        owner.args(["--state-dir", state.to_str().unwrap()]).args(words).stdin(Stdio::null());
        let mut owner = owner.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let end = Instant::now() + Duration::from_secs(180);
        loop {
            if let Some(status) = owner.try_wait().unwrap() {
                assert!(status.success(), "{words:?}: {status}");
                return;
            }
            if Instant::now() > end {
                let _ = owner.kill();
                let _ = owner.wait();
                panic!("{words:?} is not done");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    ask(&["up", file]);
    // Whatever a reader may ask. Events that are not followed have an end.
    let paths: Vec<String> = (operations(&daemon).into_iter())
        .filter(|(method, path)| method == "GET" && path != NOT_FOR_READERS)
        .map(|(_, path)| path)
        .collect();
    let socket = daemon.socket();
    let connections = become_and(Who(READER, READ_GROUP, &[]), move || {
        (0..64).filter_map(|_| connect(&socket).ok()).collect::<Vec<_>>()
    });
    assert_eq!(connections.len(), 64);
    let flood = Flood::new(connections, &paths);
    for words in [&["scale", "s=60"][..], &["down", "f"], &["up", file]] {
        let before = flood.answers();
        ask(words);
        assert!(flood.answers() > before, "nobody asked anything meanwhile");
    }
}

#[test]
fn eight_users_who_take_all_they_may_do_not_shut_out_root() {
    let Some(_alone) = possible() else { return };
    let read_group = READ_GROUP.to_string();
    let daemon = Daemon::start(&["--read-group", &read_group]);
    let floods: Vec<Vec<UnixStream>> = (0..9)
        .map(|n| {
            let socket = daemon.socket();
            become_and(Who(READER + 100 + n, READ_GROUP, &[]), move || {
                (0..64).filter_map(|_| connect(&socket).ok()).collect()
            })
        })
        .collect();
    assert!(floods.iter().map(Vec::len).sum::<usize>() > 500);
    std::thread::sleep(Duration::from_millis(300));
    assert_ne!(daemon.ask(Who(READER, READ_GROUP, &[]), "GET", "/v1/info").0, "200", "all places are taken");
    assert_eq!(daemon.ask(Who(0, 0, &[]), "GET", "/v1/info").0, "200");
}

#[test]
fn who_may_look_sees_no_values_of_environments() {
    const SECRET: &str = "correct-horse-battery";
    let Some(_alone) = possible() else { return };
    let (group, read_group) = (GROUP.to_string(), READ_GROUP.to_string());
    let daemon = Daemon::start(&["--group", &group, "--read-group", &read_group]);
    let file = daemon.dir.path().join("warren.toml");
    let text = format!(
        "name = \"f\"\n[templates.h]\nhost = true\n[services.s]\ntemplate = \"h\"\ncommand = \"nginx\"\n[services.s.env]\nPASSWORD = \"{SECRET}\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let up = Command::new(env!("CARGO_BIN_EXE_warren"))
        .args(["--state-dir", daemon.state().to_str().unwrap(), "up", file.to_str().unwrap()])
        .output()
        .unwrap();
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    let mut seen = 0;
    for (method, path) in operations(&daemon) {
        if method != "GET" || path == NOT_FOR_READERS {
            continue;
        }
        // The made-up names are those of the fabric and the service.
        let path = path.replace("instances/n", "instances/s");
        let (_, body) = daemon.ask(Who(READER, READ_GROUP, &[]), &method, &path);
        assert!(!body.contains(SECRET), "{path}: {body}");
        seen += usize::from(body.contains("PASSWORD"));
    }
    assert!(seen > 0, "the environment's names are shown");
    let (_, body) = daemon.ask(Who(WRITER, GROUP, &[]), "GET", "/v1/instances/s");
    assert!(body.contains(SECRET), "{body}");
}
