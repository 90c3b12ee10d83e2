//! Which boot of the machine this is.
//!
//! 13.2 has no `kern.boot_id`, and `kern.boottime` moves whenever somebody sets the clock, which must not look like a reboot. So the
//! boot gets a name in the kernel's environment the first time Warren runs in it, and that goes with the kernel.

use std::fmt::Write as _;

use super::sysctl;
use crate::host::Failure;
use crate::host::failure::Context;

/// Its name there.
const VARIABLE: &str = "warren.boot_id";

/// The boot's name; drawn if it has none.
pub fn id() -> Result<String, Failure> {
    let what = || format!("identify the boot of the machine (kernel variable {VARIABLE})");
    if let Some(id) = sysctl::kernel_variable(VARIABLE).doing(what)? {
        return Ok(id);
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| Failure::new(format!("draw a boot id: {error}")))?;
    let mut id = String::new();
    for byte in random {
        let _ = write!(id, "{byte:02x}");
    }
    sysctl::set_kernel_variable(VARIABLE, &id).doing(what)?;
    // Of two that set it at once, the later one's counts for both.
    sysctl::kernel_variable(VARIABLE)
        .doing(what)?
        .ok_or_else(|| Failure::new(format!("{}: it does not stay", what())))
}
