//! The `warren` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    {
        let arguments: Vec<_> = std::env::args_os().skip(1).collect();
        if let Some(code) = warren::host::lab::dispatch(&arguments) {
            return code;
        }
    }
    eprintln!("warren: no such command");
    ExitCode::from(2)
}
