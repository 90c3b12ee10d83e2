//! The program: every verb is one entry of the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    // The parts of Warren that are processes of their own start from here too, and some of them must do so before anything else.
    warren::cli::internal(&arguments).unwrap_or_else(warren::cli::main)
}
