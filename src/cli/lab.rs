//! `warren lab`: the machine made of namespaces. The one place of the command line that knows there is one.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use super::{Context, Fail};
use crate::host::{Failure, Host};

#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Run a command on the lab's host side
    Exec(ExecArgs),
    /// Switch the lab off, with everything in it, as if its power failed
    Off,
}

#[derive(Debug, clap::Args)]
pub struct ExecArgs {
    /// In the namespace that stands for the world outside the lab's machine
    #[arg(long)]
    outside: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

#[cfg(target_os = "linux")]
mod here {
    use super::*;

    pub fn internal(arguments: &[OsString]) -> Option<ExitCode> {
        match arguments.first()?.to_str()? {
            "lab-kernel" | "jail-init" => crate::host::lab::dispatch(arguments),
            _ => None,
        }
    }

    pub fn run(context: &Context, verb: &Verb) -> Result<u8, Fail> {
        match verb {
            Verb::Exec(args) => {
                if !context.state_dir.is_dir() {
                    return Err(Fail::new(format!("there is no lab in {}", context.state_dir.display()))
                        .hint("`warren up FILE` starts one"));
                }
                Err(crate::host::lab::exec(&context.state_dir, &args.command, args.outside).into())
            }
            Verb::Off => {
                off(&context.state_dir)?;
                Ok(0)
            }
        }
    }

    /// Moves this process into the lab. It must have a single thread.
    pub fn enter(state_dir: &Path) -> Result<(), Failure> {
        crate::host::lab::enter(state_dir)
    }

    /// The lab this process is in, as a host.
    pub fn open(state_dir: &Path, dns: Option<std::net::SocketAddr>) -> Result<Arc<dyn Host>, Failure> {
        Ok(Arc::new(crate::host::lab::Lab::open(state_dir, dns)?))
    }

    /// Whether a lab runs there. One that does not answer as it should is there all the same.
    pub fn runs(state_dir: &Path) -> bool {
        !matches!(crate::host::lab::client::Client::connect(state_dir), Ok(None))
    }

    /// Switches the lab off. Whether there was one.
    pub fn off(state_dir: &Path) -> Result<bool, Failure> {
        crate::host::lab::shutdown(state_dir)
    }
}

#[cfg(not(target_os = "linux"))]
mod here {
    use super::*;

    fn missing() -> Failure {
        Failure::new("the lab is made of Linux namespaces, and this is not Linux")
            .hint("here the host is `freebsd`, or `sim`")
    }

    pub fn internal(_: &[OsString]) -> Option<ExitCode> {
        None
    }

    pub fn run(_: &Context, _: &Verb) -> Result<u8, Fail> {
        Err(missing().into())
    }

    pub fn enter(_: &Path) -> Result<(), Failure> {
        Err(missing())
    }

    pub fn open(_: &Path, _: Option<std::net::SocketAddr>) -> Result<Arc<dyn Host>, Failure> {
        Err(missing())
    }

    pub fn runs(_: &Path) -> bool {
        false
    }

    pub fn off(_: &Path) -> Result<bool, Failure> {
        Err(missing())
    }
}

pub use here::{enter, internal, off, open, run, runs};
