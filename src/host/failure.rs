//! Turning errors of system calls into [`Failure`]s that name the object and the step.

use std::fmt::Display;
use std::io;

use crate::host::Failure;

/// Says what was being done when a call failed.
pub trait Context<T> {
    /// Names object and action: "mount devfs on /x".
    fn doing<D: Display>(self, what: impl FnOnce() -> D) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn doing<D: Display>(self, what: impl FnOnce() -> D) -> Result<T, Failure> {
        self.map_err(|error| Failure::os(what(), &error.into()))
    }
}

/// Adds what to do about it to a failure of one error number.
pub fn hint_if(failure: Failure, errno: i32, hint: &str) -> Failure {
    if failure.errno == Some(errno) && failure.hint.is_none() { failure.hint(hint) } else { failure }
}
