//! Runs cases. The lab is entered by processes with a single thread only, which those of the standard harness are not; so each
//! case is this program again, with the case's name, in a lab of its own.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use warren::host::lab::{self, Lab};

/// A case: what happens in the lab, and what the machine does meanwhile.
pub struct Case {
    pub name: &'static str,
    /// Runs on the lab's host side.
    pub inside: fn(&Lab, &mut Talk),
    /// Runs on the machine, beside it.
    pub outside: fn(&mut Outside),
    /// Whether an ordinary user runs it as well.
    pub user_too: bool,
}

/// How the inside speaks with the outside: lines.
pub struct Talk;

impl Talk {
    /// Tells the outside something and waits until it answers.
    pub fn say(&mut self, line: &str) -> String {
        println!("> {line}");
        std::io::stdout().flush().unwrap();
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }
}

/// The machine's side of a case.
pub struct Outside {
    pub state_dir: PathBuf,
    pub child: Child,
    /// Where on the machine the lab's DNS is to be.
    pub dns: std::net::SocketAddr,
    lines: BufReader<std::process::ChildStdout>,
    name: &'static str,
    user: bool,
}

impl Outside {
    fn start(name: &'static str, state_dir: &Path, user: bool) -> Self {
        let me = std::env::current_exe().unwrap();
        let mut command = if user {
            // A device everybody may open, in a mount namespace of this case's own.
            let script = "mount --make-rprivate / && mount -t tmpfs none /dev/net && \
                          mknod -m 666 /dev/net/tun c 10 200 && \
                          exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$0\" \"$@\"";
            let mut command = Command::new("unshare");
            command.args(["-m", "sh", "-c", script]).arg(&me);
            command
        } else {
            Command::new(&me)
        };
        let dns = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut child = command
            .args(["case", name])
            .arg(state_dir)
            .arg(dns.to_string())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { state_dir: state_dir.to_owned(), child, lines, name, user, dns }
    }

    /// The inside once more, after its end.
    pub fn restart(&mut self) {
        *self = Self::start(self.name, &self.state_dir.clone(), self.user);
    }

    /// Waits for what the inside says.
    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        while self.lines.read_line(&mut line).unwrap() > 0 {
            if let Some(said) = line.strip_prefix("> ") {
                return said.trim().to_owned();
            }
            print!("{line}");
            line.clear();
        }
        panic!("the inside ended without a word");
    }

    pub fn answer(&mut self, text: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{text}").unwrap();
    }
}

/// Nothing happens outside.
pub fn nothing(_: &mut Outside) {}

/// What a lab could leave on the machine, where others come and go meanwhile: only what bears its directory, or a name Warren gives.
#[derive(Debug, PartialEq, Eq)]
struct Machine {
    interfaces: BTreeSet<String>,
    mounts: usize,
    processes: BTreeSet<String>,
}

impl Machine {
    fn look(state_dir: &Path) -> Self {
        let interfaces = std::fs::read_to_string("/proc/net/dev").unwrap();
        let ours = |name: &&str| warren::ids::Id::of_object(name).is_some() || *name == "wan0";
        let names = interfaces.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
        let interfaces = names.filter(ours).map(str::to_owned).collect();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts = mounts.lines().filter(|line| line.contains(state_dir.to_str().unwrap())).count();
        Self {
            interfaces,
            mounts,
            processes: processes_of(state_dir).into_iter().map(|(_, line)| line).collect(),
        }
    }
}

/// The processes that have the directory on their command line, or are in a pid namespace made by one of those.
pub fn processes_of(state_dir: &Path) -> Vec<(i32, String)> {
    let needle = state_dir.to_str().unwrap();
    let mine = std::process::id() as i32;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let zombie =
            std::fs::read_to_string(entry.path().join("stat")).is_ok_and(|stat| stat.contains(") Z "));
        if pid != mine && line.contains(needle) && !zombie {
            found.push((pid, line));
        }
    }
    found
}

/// Waits until something is so, at most half a minute: the machine may be busy.
pub fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "not within half a minute: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The program.
pub fn main(cases: &[Case]) -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = lab::dispatch(&arguments) {
        return code;
    }
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    match words.as_slice() {
        ["keeper", "--state-dir", dir] => {
            return match warren::keeper::run(Path::new(dir)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => {
                    eprintln!("{failure}");
                    ExitCode::FAILURE
                }
            };
        }
        ["case", name, dir, dns] => return inside(cases, name, Path::new(dir), dns),
        _ => {}
    }
    run_all(cases, &words)
}

/// A case's process.
fn inside(cases: &[Case], name: &str, dir: &Path, dns: &str) -> ExitCode {
    lab::enter(dir).unwrap_or_else(|failure| panic!("enter: {failure}"));
    let lab = Lab::open(dir, dns.parse().ok()).unwrap_or_else(|failure| panic!("open: {failure}"));
    let case = cases.iter().find(|case| case.name == name).expect("no such case");
    (case.inside)(&lab, &mut Talk);
    ExitCode::SUCCESS
}

fn run_all(cases: &[Case], words: &[&str]) -> ExitCode {
    if words.contains(&"--list") {
        for case in cases {
            println!("{}: test", case.name);
        }
        return ExitCode::SUCCESS;
    }
    let root = rustix::process::geteuid().is_root();
    if !root || !Path::new("/dev/net/tun").exists() {
        eprintln!("\n*** THE LAB'S TESTS DID NOT RUN: they need root and /dev/net/tun ***\n");
        let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
        return if in_ci { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let wanted = |name: &str| {
        let filters: Vec<_> = words.iter().filter(|word| !word.starts_with('-')).collect();
        filters.is_empty() || filters.iter().any(|filter| name.contains(**filter))
    };
    let mut failed = Vec::new();
    for case in cases {
        for user in [false, true] {
            let name = if user { format!("{} (ordinary user)", case.name) } else { case.name.to_owned() };
            if (user && !case.user_too) || !wanted(&name) {
                continue;
            }
            print!("case {name} ... ");
            std::io::stdout().flush().unwrap();
            let begin = Instant::now();
            match std::panic::catch_unwind(|| run(case, user)) {
                Ok(()) => println!("ok ({} ms)", begin.elapsed().as_millis()),
                Err(_) => {
                    println!("FAILED");
                    failed.push(name);
                }
            }
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}

/// A directory for one lab, gone afterwards.
struct StateDir(PathBuf);

impl StateDir {
    fn new(user: bool) -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // Not below /tmp: a clone of the host has that empty, and the state directory is to be hidden by other means.
        let path = PathBuf::from(format!("/var/tmp/warren-lab-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        if user {
            std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Self(path)
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        let _ = lab::shutdown(&self.0);
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The ordinary user.
const NOBODY: u32 = 65534;

/// Runs one case in a lab of its own, and looks that nothing of it is left on the machine.
fn run(case: &Case, user: bool) {
    let dir = StateDir::new(user);
    let before = Machine::look(&dir.0);
    let mut outside = Outside::start(case.name, &dir.0, user);
    (case.outside)(&mut outside);
    drop(outside.child.stdin.take());
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut outside.lines, &mut rest).unwrap();
    print!("{rest}");
    let status = outside.child.wait().unwrap();
    if !status.success() {
        let log = std::fs::read_to_string(lab::layout::log(&dir.0)).unwrap_or_default();
        panic!("{status}; lab.log: {log}");
    }
    lab::shutdown(&dir.0).unwrap();
    eventually("nothing of the lab is left on the machine", || Machine::look(&dir.0) == before);
}
