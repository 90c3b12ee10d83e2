//! The program: every verb is one entry of the command line.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    #[cfg(target_os = "linux")]
    if let Some(code) = warren::host::lab::dispatch(&arguments) {
        return code;
    }
    let failure = match arguments.as_slice() {
        [verb, option, dir] if verb == "keeper" && option == "--state-dir" => {
            match warren::keeper::run(Path::new(dir)) {
                Ok(()) => return ExitCode::SUCCESS,
                Err(failure) => failure.to_string(),
            }
        }
        _ => "usage: warren keeper --state-dir DIR".to_owned(),
    };
    eprintln!("warren: {failure}");
    ExitCode::FAILURE
}
