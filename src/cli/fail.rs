//! How a verb ends badly: what is said, and the exit status.

use serde_json::{Value, json};

/// It failed, or was refused.
pub const FAILED: u8 = 1;
/// There is no such thing.
pub const NOT_FOUND: u8 = 3;
/// Something was left behind; `warren repair` tries again.
pub const LEFT: u8 = 4;
/// It was not done in time.
pub const TIMEOUT: u8 = 124;
/// Somebody pressed Ctrl-C.
pub const INTERRUPTED: u8 = 130;

/// The table of exit statuses, for the help and the manual.
pub const TABLE: &str = "Exit status:
  0    done
  1    failed or refused
  2    the command line makes no sense
  3    there is no such fabric, service or instance
  4    something was left behind: `warren ps` shows it, `warren repair` tries again
  124  not done within --timeout
  130  interrupted by Ctrl-C, after what was not ready has been undone
  exec and run end with the status of the command they ran.";

/// A verb that ended badly.
#[derive(Debug)]
pub struct Fail {
    /// The exit status.
    pub code: u8,
    /// For programs: `not-found`, `conflict`, `unreachable`, ….
    pub kind: String,
    /// For people.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// More for programs.
    pub details: Box<Value>,
    /// What a person is shown in place of the message: a drawing of the file, for one.
    pub screen: Option<String>,
    /// Whether it was told already, so that only the status remains.
    pub told: bool,
}

impl Fail {
    /// Something failed.
    pub fn new(message: impl Into<String>) -> Self {
        Self::of(FAILED, "failed", message)
    }

    /// With a status and a kind.
    pub fn of(code: u8, kind: &str, message: impl Into<String>) -> Self {
        let (kind, message) = (kind.to_owned(), message.into());
        Self { code, kind, message, hint: None, details: Box::default(), screen: None, told: false }
    }

    /// The command line makes no sense, in a way clap could not know.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::of(2, "usage", message)
    }

    /// Nothing more is to be said.
    #[must_use]
    pub fn told(code: u8) -> Self {
        Self { told: true, ..Self::of(code, "failed", "") }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds more for programs.
    #[must_use]
    pub fn details(mut self, details: Value) -> Self {
        self.details = Box::new(details);
        self
    }

    /// As `--json` shows it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut error =
            json!({ "kind": self.kind, "message": self.message, "hint": self.hint, "exit": self.code });
        if !self.details.is_null() {
            error["details"] = (*self.details).clone();
        }
        json!({ "error": error })
    }
}

impl From<crate::host::Failure> for Fail {
    fn from(failure: crate::host::Failure) -> Self {
        let fail = Self::new(failure.message);
        Self { hint: failure.hint, ..fail }
    }
}
