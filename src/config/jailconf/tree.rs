//! What stands in the files, before any of it is merged: blocks of assignments in the order of the text.

use std::sync::Arc;

use crate::config::diagnostics::{Source, Span};
use crate::config::params::Kind;

/// A place in one of the files.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) source: Arc<Source>,
    pub(super) span: Span,
}

/// One string of a value: its text, and the variables in it by the place in the text where their values go.
#[derive(Debug, Clone, Default)]
pub(super) struct Str {
    /// Shared with every jail that has it as it stands.
    pub(super) text: Arc<str>,
    pub(super) vars: Vec<Var>,
    pub(super) span: Span,
}

/// A variable in a string.
#[derive(Debug, Clone)]
pub(super) struct Var {
    pub(super) name: String,
    pub(super) at: usize,
    pub(super) span: Span,
}

/// `name;`, `name = value, value;`, `name += value;` or `name value;`.
#[derive(Debug, Clone)]
pub(super) struct Assign {
    /// Shared with every jail it reaches.
    pub(super) name: Arc<str>,
    /// Whether the name is a variable's: `$name`.
    pub(super) var: bool,
    /// What is known of the parameter of this name: looked up once for all jails.
    pub(super) kind: Option<Kind>,
    /// Whether it is a variable's and a parameter of jail(8) has it too, which is an error.
    pub(super) taken: bool,
    /// `+=`.
    pub(super) append: bool,
    pub(super) values: Vec<Str>,
    pub(super) source: Arc<Source>,
    /// Of the name.
    pub(super) span: Span,
}

/// A jail, a wildcard, or parameters outside any block, which are those of `*`.
#[derive(Debug, Clone)]
pub(super) struct Block {
    /// With its parents' names: `parent.child`.
    pub(super) name: String,
    pub(super) params: Vec<Assign>,
    /// Of the name; of the first parameter for parameters outside any block.
    pub(super) place: Place,
    /// The place of its closing brace in the file it began in; its beginning for parameters outside any block.
    pub(super) end: usize,
}

/// A comment, for those who write the configuration anew: where it stands, with what encloses it.
#[derive(Debug, Clone)]
pub(super) struct Comment {
    pub(super) source: Arc<Source>,
    pub(super) span: Span,
}
