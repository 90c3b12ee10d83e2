//! The terminal in raw mode, and back, whatever happens.

use std::os::fd::AsFd;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::Fail;

/// While this lives, keys go through as they are pressed.
pub struct Raw {
    before: Termios,
}

impl Raw {
    /// Standard input's terminal into raw mode.
    pub fn enter() -> Result<Self, Fail> {
        let input = std::io::stdin();
        let before = tcgetattr(input.as_fd())
            .map_err(|e| Fail::new(format!("asking for the terminal's mode: {e}")))?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(input.as_fd(), SetArg::TCSANOW, &raw)
            .map_err(|e| Fail::new(format!("setting the terminal's mode: {e}")))?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = tcsetattr(std::io::stdin().as_fd(), SetArg::TCSADRAIN, &self.before);
    }
}

/// Columns and rows of standard output's terminal.
#[must_use]
pub fn size() -> (u16, u16) {
    match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col, size.ws_row),
        _ => (80, 24),
    }
}
