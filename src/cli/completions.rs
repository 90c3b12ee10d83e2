//! `warren completions SHELL` and `warren man`.

use std::path::PathBuf;

use clap::CommandFactory;

use super::{Cli, Fail, out};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub fn run(args: &Args) -> Result<u8, Fail> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "warren", &mut text);
    out::raw(&text);
    Ok(0)
}

#[derive(Debug, clap::Args)]
pub struct ManArgs {
    /// Write a page for each verb into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub fn man(args: &ManArgs) -> Result<u8, Fail> {
    let failed = |e: std::io::Error| Fail::new(format!("writing the manual: {e}"));
    match &args.dir {
        Some(dir) => clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?,
        None => {
            let mut text = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut text).map_err(failed)?;
            out::raw(&text);
        }
    }
    Ok(0)
}
