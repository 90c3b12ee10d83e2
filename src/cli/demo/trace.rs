//! What the lab makes on the machine, remembered while it is there, and looked for when it should be gone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::super::Fail;

/// What there was.
#[derive(Debug, Default)]
pub struct Trace {
    dir: PathBuf,
    /// Processes by number, with their start time: numbers are used again.
    processes: BTreeMap<i32, u64>,
    /// Namespaces: `net:[4026532]`.
    namespaces: BTreeSet<String>,
    /// Interfaces of ours.
    interfaces: BTreeSet<String>,
    /// Anchors of ours.
    anchors: BTreeSet<String>,
    /// When the lab was to end, in ticks since boot.
    ended: u64,
}

/// A process of /proc.
struct Process {
    pid: i32,
    parent: i32,
    started: u64,
    command: String,
}

/// How long processes that were killed may take to die.
const DYING: Duration = Duration::from_secs(3);

const KINDS: [&str; 6] = ["mnt", "net", "pid", "uts", "ipc", "user"];

/// proc_pid_stat(5): what follows the last `)` is the state, the parent, …, and as the 20th the start time.
///
/// A zombie is dead already, and only its parent can bury it: none of ours.
fn stat(text: &str) -> Option<(i32, u64)> {
    let rest: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    if matches!(rest.first(), Some(&("Z" | "X"))) {
        return None;
    }
    Some((rest.get(1)?.parse().ok()?, rest.get(19)?.parse().ok()?))
}

fn processes() -> Vec<Process> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // One that ends meanwhile is not there.
        let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((parent, started)) = stat(&text) else { continue };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        all.push(Process { pid, parent, started, command });
    }
    all
}

fn namespaces(pid: i32) -> BTreeSet<String> {
    let link = |kind: &&str| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    KINDS.iter().filter_map(link).map(|name| name.display().to_string()).collect()
}

impl Trace {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), ..Self::default() }
    }

    /// Remembers what there is now: processes that bear the state directory in their command line, all below them, their
    /// namespaces, and the interfaces and anchors that the daemon lists.
    pub fn take(&mut self, inventory: &crate::host::Inventory) {
        let (all, me) = (processes(), i32::try_from(std::process::id()).unwrap_or(0));
        let dir = self.dir.display().to_string();
        let mut ours: BTreeSet<i32> =
            all.iter().filter(|p| p.pid != me && p.command.contains(&dir)).map(|p| p.pid).collect();
        loop {
            let below: Vec<i32> = all
                .iter()
                .filter(|p| ours.contains(&p.parent) && !ours.contains(&p.pid))
                .map(|p| p.pid)
                .collect();
            if below.is_empty() {
                break;
            }
            ours.extend(below);
        }
        let mine = namespaces(me);
        for process in all.iter().filter(|p| ours.contains(&p.pid)) {
            self.processes.insert(process.pid, process.started);
            self.namespaces.extend(namespaces(process.pid).difference(&mine).cloned());
        }
        self.interfaces.extend(inventory.interfaces.keys().cloned());
        self.anchors.extend(inventory.anchors.keys().cloned());
    }

    /// How many processes and namespaces were seen.
    pub fn seen(&self) -> (usize, usize) {
        (self.processes.len(), self.namespaces.len())
    }

    /// The lab is to end now. Kernels use the numbers of namespaces again: who starts later has others by the same number.
    pub fn ends(&mut self) {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        let seconds: f64 = uptime.split(' ').next().and_then(|s| s.parse().ok()).unwrap_or(f64::MAX);
        // Start times are in ticks, of which Linux shows 100 a second on every architecture (time(7)).
        self.ended = (seconds * 100.0) as u64;
    }

    /// No process of the lab is left.
    pub fn no_process(&self) -> Result<String, Fail> {
        patiently(|| self.look_for_processes())
    }

    fn look_for_processes(&self) -> Result<String, Fail> {
        let dir = self.dir.display().to_string();
        let me = i32::try_from(std::process::id()).unwrap_or(0);
        let left: Vec<String> = (processes().into_iter())
            .filter(|p| {
                p.pid != me && (p.command.contains(&dir) || self.processes.get(&p.pid) == Some(&p.started))
            })
            .map(|p| format!("{} {}", p.pid, p.command))
            .collect();
        nothing(left, format!("none of {}", self.processes.len()))
    }

    /// No process is in one of the lab's namespaces, so that they are gone.
    pub fn no_namespace(&self) -> Result<String, Fail> {
        patiently(|| self.look_for_namespaces())
    }

    fn look_for_namespaces(&self) -> Result<String, Fail> {
        let left: Vec<String> = (processes().into_iter())
            .filter(|p| p.started <= self.ended)
            .filter_map(|p| {
                namespaces(p.pid)
                    .intersection(&self.namespaces)
                    .next()
                    .map(|n| format!("{n} of {} {}", p.pid, p.command))
            })
            .collect();
        nothing(left, format!("none of {}", self.namespaces.len()))
    }

    /// Nothing is mounted below the state directory.
    pub fn no_mount(&self) -> Result<String, Fail> {
        let text = std::fs::read_to_string("/proc/self/mountinfo");
        let text = text.map_err(|e| Fail::new(format!("/proc/self/mountinfo: {e}")))?;
        let dir = self.dir.display().to_string();
        nothing(text.lines().filter(|line| line.contains(&dir)).map(str::to_owned).collect(), "none".into())
    }

    /// No interface of the lab came to this machine's own network.
    pub fn no_interface(&self) -> Result<String, Fail> {
        let text =
            std::fs::read_to_string("/proc/net/dev").map_err(|e| Fail::new(format!("/proc/net/dev: {e}")))?;
        let here =
            text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned());
        let left = here.filter(|name| self.interfaces.contains(name)).collect();
        nothing(left, format!("none of {}", self.interfaces.len()))
    }

    /// No table of the lab came to this machine's own packet filter.
    #[cfg(target_os = "linux")]
    pub fn no_table(&self) -> Result<String, Fail> {
        if !nix::unistd::geteuid().is_root() {
            return Ok(
                "they went with the lab's network namespace; only root may look into this machine's own"
                    .into(),
            );
        }
        // It has a runtime of its own, which a thread that runs one already cannot enter.
        let looked = std::thread::spawn(crate::firewall::nft::inventory).join();
        let here = looked.map_err(|_| Fail::new("the look into the packet filter panicked"))??;
        let left = here.0.into_keys().filter(|anchor| self.anchors.contains(anchor)).collect();
        nothing(left, format!("none of {}", self.anchors.len()))
    }

    #[cfg(not(target_os = "linux"))]
    pub fn no_table(&self) -> Result<String, Fail> {
        Ok(format!("{} anchors were seen; the inventory says they are gone", self.anchors.len()))
    }

    /// No root and no layer of a clone is left.
    pub fn no_directory(&self) -> Result<String, Fail> {
        let mut left = Vec::new();
        for name in ["roots", "clones"] {
            let dir = self.dir.join(name);
            match std::fs::read_dir(&dir) {
                Ok(entries) => left.extend(entries.flatten().map(|entry| entry.path().display().to_string())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(Fail::new(format!("{}: {error}", dir.display()))),
            }
        }
        nothing(left, "none".into())
    }
}

/// Looks until it is good, for as long as dying may take.
fn patiently(look: impl Fn() -> Result<String, Fail>) -> Result<String, Fail> {
    let end = Instant::now() + DYING;
    loop {
        match look() {
            Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(20)),
            seen => return seen,
        }
    }
}

fn nothing(left: Vec<String>, good: String) -> Result<String, Fail> {
    match left.len() {
        0 => Ok(good),
        count => {
            let shown: Vec<&str> = left.iter().take(5).map(String::as_str).collect();
            Err(Fail::new(format!("{count} left: {}", shown.join("; "))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::stat;

    #[test]
    fn a_process_may_be_called_anything() {
        let text = "42 (a) b) S 7 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1";
        assert_eq!(stat(text), Some((7, 12345)));
        assert_eq!(stat("42 (a"), None);
    }
}
