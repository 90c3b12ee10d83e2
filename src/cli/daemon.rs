//! `warren daemon`, and starting one in the background for verbs that need it.

use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use super::{Client, Context, Fail, lab, out, state};
use crate::config::spec::CommandLine;
use crate::daemon::{self, Options};
use crate::host::sim::{Behaviour, Sim};
use crate::host::{Host, Status};

/// How long a daemon that was started may take until it answers: it recovers first, on a slow disk perhaps.
const PATIENCE: Duration = Duration::from_secs(40);

/// The kinds of host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HostKind {
    /// FreeBSD itself: the product
    Freebsd,
    /// A machine made of Linux namespaces: everything real but the kernel's name
    Lab,
    /// A kernel in memory: no process runs and no packet flows; it ends with the daemon
    Sim,
}

impl HostKind {
    /// As `info` says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Freebsd => "freebsd",
            Self::Lab => "lab",
            Self::Sim => "sim",
        }
    }

    /// What this system has.
    #[must_use]
    pub fn usual() -> Self {
        if cfg!(target_os = "freebsd") { Self::Freebsd } else { Self::Lab }
    }
}

/// Where the lab's DNS is reached from the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnsRelay {
    Off,
    At(SocketAddr),
}

fn dns_relay(text: &str) -> Result<DnsRelay, String> {
    if text == "off" {
        return Ok(DnsRelay::Off);
    }
    let address: SocketAddr = text.parse().map_err(|_| "an address and a port, or `off`".to_owned())?;
    if !address.ip().is_loopback() {
        return Err("an address of the loopback: the lab touches nothing else of the machine".into());
    }
    Ok(DnsRelay::At(address))
}

/// Options of a daemon, and of the verbs that may start one.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Starting a daemon")]
pub struct Starting {
    /// What it runs on [default: freebsd on FreeBSD, lab on Linux]
    #[arg(long, env = "WARREN_HOST", value_enum)]
    pub host: Option<HostKind>,
    /// How many operations may be under way at once [default: four for each processor, 8 to 64]
    #[arg(long, env = "WARREN_JOBS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub jobs: Option<u16>,
    /// In the lab: where on the machine's loopback DNS is reached, or `off` [default: 127.0.0.1:5300]
    #[arg(long, env = "WARREN_DNS", value_name = "ADDR:PORT", value_parser = dns_relay)]
    pub dns: Option<DnsRelay>,
    /// Let the daemon's log say more; twice: everything. WARREN_LOG says it in detail
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    starting: Starting,
    /// The group whose members may do everything: a name or a number
    #[arg(long)]
    group: Option<String>,
    /// The group whose members may look: a name or a number
    #[arg(long)]
    read_group: Option<String>,
    /// Leave the terminal's session: for daemons that other verbs start
    #[arg(long, hide = true)]
    detached: bool,
}

/// Runs the daemon.
pub fn run(context: &Context, args: &Args) -> Result<u8, Fail> {
    if args.detached {
        // The one who started us is no group leader's child by then; a failure would only mean that we are one already.
        let _ = nix::unistd::setsid();
    }
    let kind = args.starting.host.unwrap_or_else(HostKind::usual);
    if kind != HostKind::Lab && args.starting.dns.is_some() {
        return Err(Fail::usage(
            "--dns is for the lab: other hosts serve DNS on the networks' gateways only",
        ));
    }
    let state_dir = state::make(&context.state_dir)?;
    if args.group.is_some() || args.read_group.is_some() {
        use std::os::unix::fs::PermissionsExt;
        let opened = std::fs::set_permissions(&state_dir, std::fs::Permissions::from_mode(0o711));
        opened.map_err(|e| Fail::new(format!("opening {} to the groups: {e}", state_dir.display())))?;
    }
    if kind == HostKind::Lab {
        // Before there is a second thread.
        lab::enter(&state_dir)?;
    }
    trace(args.starting.verbose);
    let host = open_host(kind, &state_dir, args.starting.dns)?;
    let parallel = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let options = Options {
        jobs: args.starting.jobs.map_or_else(|| (4 * parallel).clamp(8, 64), usize::from),
        state_dir,
        group: args.group.clone(),
        read_group: args.read_group.clone(),
    };
    tracing::info!(state_dir = %options.state_dir.display(), host = kind.as_str(), jobs = options.jobs, "the daemon starts");
    daemon::run(&options, host, kind.as_str())?;
    tracing::info!("the daemon has ended");
    Ok(0)
}

/// The host of a kind. In the lab the process is inside it by now.
fn open_host(kind: HostKind, state_dir: &Path, dns: Option<DnsRelay>) -> Result<Arc<dyn Host>, Fail> {
    match kind {
        HostKind::Sim => Ok(Arc::new(sim())),
        HostKind::Lab => {
            let usual = SocketAddr::from(([127, 0, 0, 1], 5300));
            let dns = match dns {
                None => Some(usual),
                Some(DnsRelay::Off) => None,
                Some(DnsRelay::At(address)) => Some(address),
            };
            Ok(lab::open(state_dir, dns)?)
        }
        #[cfg(target_os = "freebsd")]
        HostKind::Freebsd => Ok(Arc::new(crate::host::freebsd::FreeBsd::open(state_dir)?)),
        #[cfg(not(target_os = "freebsd"))]
        HostKind::Freebsd => Err(Fail::new("the host `freebsd` needs FreeBSD, and this is not FreeBSD")
            .hint("on Linux the same runs in the lab: --host lab")),
    }
}

/// The machine in memory. It is a new one with every daemon, and says so by its boot. Its commands are a few words that end as
/// they say; any other main process runs until it is killed.
fn sim() -> Sim {
    let sim = Sim::new();
    let boot = daemon::clock::wall();
    sim.tamper(|machine| machine.boot = boot);
    sim.script(|job| match said(&job.command) {
        Some(status) => Behaviour::Ends(status),
        None => Behaviour::usual(job),
    });
    sim
}

/// What a command of the sim says about its own end: `true`, `false`, `exit 3`, `echo …`.
fn said(command: &CommandLine) -> Option<Status> {
    let line = match command {
        CommandLine::Shell(line) => line.clone(),
        CommandLine::Argv(argv) => match argv.as_slice() {
            [shell, option, line] if option == "-c" && shell.ends_with("sh") => line.clone(),
            argv => argv.join(" "),
        },
    };
    let mut words = line.split_whitespace();
    let first = words.next()?;
    Some(Status::Exited(match first.rsplit('/').next()? {
        "true" | "echo" => 0,
        "false" => 1,
        "exit" => words.next().and_then(|code| code.parse().ok()).unwrap_or(0),
        _ => return None,
    }))
}

fn trace(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let usual = match verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let filter = match std::env::var("WARREN_LOG") {
        Ok(said) if !said.is_empty() => EnvFilter::new(said),
        // Other people's debugging is not ours.
        _ => EnvFilter::new(format!(
            "info,warren={usual},warren_dns={usual},warren_dhcp={usual},warren_netgraph={usual}"
        )),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that cannot be written, on a full disk say, would be told of on the same stderr, and that by a panic.
        .log_internal_errors(false)
        .with_ansi(
            std::io::IsTerminal::is_terminal(&std::io::stderr()) && std::env::var_os("NO_COLOR").is_none(),
        )
        .init();
}

/// What a daemon in the background says.
#[must_use]
pub fn log_path(state_dir: &Path) -> PathBuf {
    state_dir.join("daemon.log")
}

/// A client of a daemon that answers: the one that runs, or a new one.
pub async fn ensure(context: &Context, starting: &Starting) -> Result<Client, Fail> {
    if let Some(info) = context.client().answering().await? {
        if let Some(wanted) = starting.host.filter(|wanted| wanted.as_str() != info.host) {
            let message = format!(
                "a daemon runs in {} already, on the host `{}` and not `{}`",
                info.state_dir,
                info.host,
                wanted.as_str()
            );
            return Err(Fail::of(1, "conflict", message)
                .hint("`warren shutdown` ends it; --state-dir names another place"));
        }
        if starting.jobs.is_some() || starting.dns.is_some() || starting.verbose > 0 {
            out::note("a daemon runs already: --jobs, --dns and -v are for starting one and were not used");
        }
        return Ok(context.client());
    }
    let state_dir = state::make(&context.state_dir)?;
    let child = spawn(&state_dir, starting)?;
    let client = Client::new(&state_dir);
    wait(&client, child).await?;
    Ok(client)
}

/// Starts a daemon in the background.
pub fn spawn(state_dir: &Path, starting: &Starting) -> Result<Child, Fail> {
    let exe = std::env::current_exe().map_err(|e| Fail::new(format!("finding this program: {e}")))?;
    let path = log_path(state_dir);
    crate::keeper::logs::set_aside(&path);
    let log =
        std::os::unix::fs::OpenOptionsExt::mode(std::fs::File::options().create(true).append(true), 0o600)
            .open(&path);
    let log = log.map_err(|e| Fail::new(format!("opening {}: {e}", path.display())))?;
    let errors = log.try_clone().map_err(|e| Fail::new(format!("opening {}: {e}", path.display())))?;
    let mut command = Command::new(exe);
    command.arg("daemon").arg("--detached").arg("--state-dir").arg(state_dir).current_dir("/");
    let host = starting.host.unwrap_or_else(HostKind::usual);
    command.arg("--host").arg(host.as_str());
    if let Some(jobs) = starting.jobs {
        command.arg("--jobs").arg(jobs.to_string());
    }
    match starting.dns {
        None => {}
        Some(DnsRelay::Off) => drop(command.arg("--dns").arg("off")),
        Some(DnsRelay::At(address)) => drop(command.arg("--dns").arg(address.to_string())),
    }
    for _ in 0..starting.verbose {
        command.arg("-v");
    }
    let started = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
    started.map_err(|e| Fail::new(format!("starting a daemon: {e}")))
}

/// Waits until a daemon that was started answers. If it ended because another was faster, that one is as good.
pub async fn wait(client: &Client, mut child: Child) -> Result<Child, Fail> {
    let mut end = Instant::now() + PATIENCE;
    let mut ended = None;
    loop {
        if client.answering().await.is_ok_and(|info| info.is_some()) {
            return Ok(child);
        }
        if ended.is_none()
            && let Ok(Some(status)) = child.try_wait()
        {
            ended = Some(status);
            end = Instant::now() + Duration::from_secs(1);
        }
        if Instant::now() > end {
            let path = log_path(client.state_dir());
            let how = ended
                .map_or_else(|| "does not answer".to_owned(), |status| format!("ended at once ({status})"));
            let message =
                format!("the daemon that was started {how}. The end of {}:\n{}", path.display(), tail(&path));
            return Err(Fail::of(1, "daemon", message));
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// The last lines of a file.
fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(8 << 10)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|e| format!("(cannot be read: {e})"));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(12)..]
        .iter()
        .map(|line| format!("  {}", out::plain(line)))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_the_sim_end_as_they_say() {
        let shell = |line: &str| said(&CommandLine::Shell(line.into()));
        assert_eq!(shell("exit 3"), Some(Status::Exited(3)));
        assert_eq!(shell("/usr/bin/false"), Some(Status::Exited(1)));
        assert_eq!(shell("nginx"), None);
        let argv = |words: &[&str]| said(&CommandLine::Argv(words.iter().map(|w| (*w).to_owned()).collect()));
        assert_eq!(argv(&["/bin/sh", "-c", "exit 7"]), Some(Status::Exited(7)));
        assert_eq!(argv(&["/.warren/warren", "beacon"]), None);
    }

    #[test]
    fn dns_is_relayed_to_the_loopback_or_not_at_all() {
        assert_eq!(dns_relay("off"), Ok(DnsRelay::Off));
        assert!(matches!(dns_relay("127.0.0.1:53"), Ok(DnsRelay::At(_))));
        assert!(dns_relay("0.0.0.0:53").is_err());
    }
}
