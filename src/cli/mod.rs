//! The command line: one file per verb. Each parses, calls the API and prints; it decides nothing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod backup;
pub mod client;
mod completions;
mod config;
mod convert;
mod daemon;
mod demo;
mod dns;
mod doctor;
mod down;
mod events;
mod exec;
mod fabrics;
mod fail;
mod follow;
mod import;
mod info;
mod inspect;
mod lab;
mod lease;
mod logs;
mod network;
mod out;
mod plan;
mod ps;
mod repair;
mod resolve;
mod restore;
mod run;
mod scale;
mod shutdown;
mod state;
mod stop;
mod terminal;
mod up;

pub use client::Client;
pub use fail::Fail;

/// A networking-focused fabric manager for FreeBSD jails.
///
/// Takes a declaration of templates, networks and services, and keeps many disposable instances of them running: each with
/// a clone, a link, an address, a name and its packet filter rules. On Linux the same runs in a lab of namespaces.
#[derive(Debug, Parser)]
#[command(name = "warren", version, after_help = fail::TABLE, max_term_width = 110)]
pub struct Cli {
    /// Where everything is kept [default: $XDG_STATE_HOME/warren or ~/.local/state/warren; /var/db/warren on FreeBSD]
    #[arg(long, global = true, env = "WARREN_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Bring a fabric up, or change it to what its file says now
    Up(up::Args),
    /// Take a fabric down
    Down(down::Args),
    /// List instances
    Ps(ps::Args),
    /// Show everything about an instance
    Inspect(inspect::Args),
    /// Show every step of a file's networks and services, and what undoes it; touches nothing
    Plan(plan::Args),
    /// Change the number of a service's instances
    Scale(scale::Args),
    /// Run a command in an instance of its own
    Run(run::Args),
    /// Run a command in an instance that is there
    Exec(exec::Args),
    /// Print what an instance printed
    Logs(logs::Args),
    /// Print what happened
    Events(events::Args),
    /// Stop an instance; its service is wanted with one fewer
    Stop(stop::Args),
    /// Networks
    #[command(subcommand)]
    Network(network::Verb),
    /// Addresses given out
    #[command(subcommand)]
    Lease(lease::Verb),
    /// Names
    #[command(subcommand)]
    Dns(dns::Verb),
    /// Look whether everything Warren needs is there
    Doctor(doctor::Args),
    /// Try again what could not be taken down
    Repair(repair::Args),
    /// Copy the store to a file, while the daemon runs or not
    Backup(backup::Args),
    /// Put a backup in the store's place; nothing may run
    Restore(restore::Args),
    /// Run the daemon in the foreground
    Daemon(daemon::Args),
    /// End the daemon, and in the lab the lab
    Shutdown(shutdown::Args),
    /// Say what daemon answers
    Info(info::Args),
    /// The lab: a machine made of namespaces
    #[command(subcommand)]
    Lab(lab::Verb),
    /// Bring an example up, use it, break it, take it down, and prove that nothing is left
    Demo(demo::Args),
    /// Write a jail.conf as a warren.toml that does the same
    Convert(convert::Args),
    /// Take over jails that jail(8) started, without a restart
    Import(import::Args),
    /// Check files and show what they come to; print the schema of files and of the API
    #[command(subcommand)]
    Config(config::Verb),
    /// Print completions for a shell
    Completions(completions::Args),
    /// Print the manual, or write its pages into a directory
    Man(completions::ManArgs),
    /// A small responder, for examples and tests: answers HTTP with who it is
    #[command(hide = true)]
    Beacon(crate::beacon::Args),
    /// Ask a DNS server
    #[command(hide = true)]
    Resolve(resolve::Args),
}

/// What every verb gets.
#[derive(Debug, Clone)]
pub struct Context {
    /// The state directory; absolute, but it need not be there.
    pub state_dir: PathBuf,
}

impl Context {
    fn client(&self) -> Client {
        Client::new(&self.state_dir)
    }
}

/// Serves the entries that are not for people: parts of Warren that are processes of their own. `None` if the arguments speak of
/// something else.
#[must_use]
pub fn internal(arguments: &[OsString]) -> Option<ExitCode> {
    let (verb, rest) = arguments.split_first()?;
    match (verb.to_str()?, rest) {
        ("keeper", [option, dir]) if option == "--state-dir" => {
            Some(match crate::keeper::run(Path::new(dir)) {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => {
                    out::note(format_args!("warren: {failure}"));
                    ExitCode::FAILURE
                }
            })
        }
        #[cfg(target_os = "linux")]
        (doctor::PROBE, []) => Some(doctor::probe_main()),
        _ => lab::internal(arguments),
    }
}

/// Everything else.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.verb.json();
    match cli.run() {
        Ok(code) => ExitCode::from(code),
        Err(fail) => {
            if !fail.told {
                if json {
                    out::json_line(&fail.to_json());
                }
                match &fail.screen {
                    Some(screen) => out::note(screen.trim_end()),
                    None => out::note(format_args!("warren: {}", fail.message)),
                }
                if let Some(hint) = &fail.hint {
                    out::note(format_args!("  {hint}"));
                }
            }
            ExitCode::from(fail.code)
        }
    }
}

/// Runs a future to its end on this thread.
fn block_on<T>(future: impl Future<Output = Result<T, Fail>>) -> Result<T, Fail> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Fail::new(format!("starting the runtime: {e}")))?;
    let result = runtime.block_on(future);
    // A read of the terminal that never ends must not keep the program.
    runtime.shutdown_background();
    result
}

impl Cli {
    fn run(self) -> Result<u8, Fail> {
        // Asked for only by verbs that need it: some run where not even HOME is set.
        let state_dir = self.state_dir;
        let context = || state::directory(state_dir).map(|state_dir| Context { state_dir });
        match self.verb {
            Verb::Up(args) => block_on(up::run(&context()?, args)),
            Verb::Down(args) => block_on(down::run(&context()?, args)),
            Verb::Ps(args) => block_on(ps::run(&context()?, args)),
            Verb::Inspect(args) => block_on(inspect::run(&context()?, args)),
            Verb::Plan(args) => plan::run(&args),
            Verb::Scale(args) => block_on(scale::run(&context()?, args)),
            Verb::Run(args) => block_on(run::run(&context()?, args)),
            Verb::Exec(args) => block_on(exec::run(&context()?, args)),
            Verb::Logs(args) => block_on(logs::run(&context()?, args)),
            Verb::Events(args) => block_on(events::run(&context()?, args)),
            Verb::Stop(args) => block_on(stop::run(&context()?, args)),
            Verb::Network(verb) => block_on(network::run(&context()?, verb)),
            Verb::Lease(verb) => block_on(lease::run(&context()?, verb)),
            Verb::Dns(verb) => block_on(dns::run(&context()?, verb)),
            Verb::Doctor(args) => block_on(doctor::run(&context()?, args)),
            Verb::Repair(args) => block_on(repair::run(&context()?, args)),
            Verb::Backup(args) => block_on(backup::run(&context()?, args)),
            Verb::Restore(args) => block_on(restore::run(&context()?, args)),
            // These two enter the lab, which a process with a second thread cannot.
            Verb::Daemon(args) => daemon::run(&context()?, &args),
            Verb::Lab(verb) => lab::run(&context()?, &verb),
            Verb::Shutdown(args) => block_on(shutdown::run(&context()?, args)),
            Verb::Info(args) => block_on(info::run(&context()?, args)),
            Verb::Demo(args) => demo::run(args),
            Verb::Convert(args) => convert::run(&args),
            Verb::Import(args) => block_on(import::run(&context()?, args)),
            Verb::Config(verb) => config::run(&verb),
            Verb::Completions(args) => completions::run(&args),
            Verb::Man(args) => completions::man(&args),
            Verb::Beacon(args) => Ok(crate::beacon::run(&args)),
            Verb::Resolve(args) => resolve::run(&args),
        }
    }
}

impl Verb {
    /// Whether what is printed is for programs.
    fn json(&self) -> bool {
        match self {
            Self::Up(a) => a.output.json,
            Self::Down(a) => a.output.json,
            Self::Ps(a) => a.output.json,
            Self::Inspect(a) => a.output.json,
            Self::Plan(a) => a.output.json,
            Self::Scale(a) => a.output.json,
            Self::Logs(a) => a.output.json,
            Self::Events(a) => a.output.json,
            Self::Stop(a) => a.output.json,
            Self::Network(network::Verb::Ls(a)) => a.output.json,
            Self::Lease(lease::Verb::Ls(a)) => a.output.json,
            Self::Dns(dns::Verb::Ls(a)) => a.output.json,
            Self::Doctor(a) => a.output.json,
            Self::Repair(a) => a.output.json,
            Self::Backup(a) => a.output.json,
            Self::Restore(a) => a.output.json,
            Self::Shutdown(a) => a.output.json,
            Self::Info(a) => a.output.json,
            Self::Demo(a) => a.output.json,
            Self::Convert(a) => a.output.json,
            Self::Import(a) => a.output.json,
            Self::Config(config::Verb::Check(a)) => a.output.json,
            Self::Config(config::Verb::Show(a)) => a.output.json,
            Self::Resolve(a) => a.output.json,
            // Schemas are JSON whatever is said; the others print what is not theirs.
            Self::Config(_)
            | Self::Run(_)
            | Self::Exec(_)
            | Self::Daemon(_)
            | Self::Lab(_)
            | Self::Completions(_)
            | Self::Man(_)
            | Self::Beacon(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_whole() {
        super::Cli::command().debug_assert();
    }
}
