//! What is wrong with a configuration, said so that it can be put right: the place, the reason, the next step.
//!
//! Every check reports a [`Problem`] at a *place*, the dotted path a user would write (`services.api.networks.0`). Where
//! the text is known, [`Places`] turns that into a span; where it is not (a spec sent to the API), the place alone is
//! shown. So one set of rules serves files and API alike.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode};

/// Bytes `start..end` of a source.
pub(super) type Span = Range<usize>;

/// A file's name and text.
pub(super) type Source = NamedSource<String>;

/// So many problems are shown; more are counted only, so that a broken or hostile file cannot flood a terminal.
const SHOWN: usize = 100;

/// So many are kept at all.
const KEPT: usize = 1000;

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Which rule it is, for programs: `config::unknown-key`. Stable.
    pub code: &'static str,
    /// Where it is, as a dotted path in the terms of the file: `networks.shop.ipv4`.
    pub place: String,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// Other places it has to do with, each with a word on why.
    pub(super) also: Vec<(String, String)>,
    /// Objects the rule looked at: a problem already found there makes this one an echo (see [`Problems`]).
    pub(super) because: Vec<String>,
    /// Whether the place itself says nothing about being an echo: it stands for the object around it.
    alone: bool,
    /// The words at the place itself.
    label: Option<String>,
    source: Option<Arc<Source>>,
    spans: Vec<(Span, Option<String>)>,
}

impl Problem {
    pub(super) fn new(code: &'static str, place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code,
            place: place.into(),
            message: message.into(),
            help: None,
            also: Vec::new(),
            because: Vec::new(),
            alone: false,
            label: None,
            source: None,
            spans: Vec::new(),
        }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(super) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(super) fn also(mut self, place: impl Into<String>, why: impl Into<String>) -> Self {
        self.also.push((place.into(), why.into()));
        self
    }

    pub(super) fn because(mut self, object: impl Into<String>) -> Self {
        self.because.push(object.into());
        self
    }

    /// For problems of a whole object, which something else wrong inside it does not explain.
    pub(super) fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Ties the problem to a span that is already known.
    pub(super) fn at(mut self, source: &Arc<Source>, span: Span) -> Self {
        self.source = Some(source.clone());
        self.spans = vec![(span, self.label.clone())];
        self
    }

    /// Where in its file it begins, if that is known.
    pub(super) fn start(&self) -> Option<usize> {
        self.spans.first().map(|(span, _)| span.start)
    }

    /// Says what led to it: another place of the same file, and what to do there.
    pub(super) fn blame(&mut self, source: &Arc<Source>, span: Span, why: &str, help: &str) {
        if self.source.as_ref().is_none_or(|own| !Arc::ptr_eq(own, source)) {
            return;
        }
        match self.spans.iter_mut().find(|(there, _)| *there == span) {
            Some((_, label)) => *label = Some(why.to_owned()),
            None => self.spans.push((span, Some(why.to_owned()))),
        }
        self.help = Some(help.to_owned());
    }

    /// Finds the spans of the problem's places, as far as the text is known.
    pub(super) fn locate(&mut self, places: &Places) {
        if !self.spans.is_empty() {
            return;
        }
        let Some((source, span)) = places.find(&self.place) else { return };
        self.spans.push((span, self.label.clone()));
        for (place, why) in &self.also {
            if let Some((other, span)) = places.find(place)
                && Arc::ptr_eq(&source, &other)
                && self.spans.iter().all(|(there, _)| *there != span)
            {
                self.spans.push((span, Some(why.clone())));
            }
        }
        self.source = Some(source);
    }

    /// The name of the file it is in, if it is in one.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.source.as_deref().map(NamedSource::name)
    }

    /// Line and column in the file, both counted from 1, the column in characters.
    #[must_use]
    pub fn position(&self) -> Option<(usize, usize)> {
        let text = self.source.as_deref()?.inner();
        let before = text.get(..self.spans.first()?.0.start)?;
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Some((before.matches('\n').count() + 1, before[line_start..].chars().count() + 1))
    }

    /// For programs: code, place, message, and help, file, line, column where there are any.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let position = self.position();
        serde_json::json!({
            "code": self.code,
            "place": self.place,
            "message": self.message,
            "help": self.help,
            "file": self.file(),
            "line": position.map(|(line, _)| line),
            "column": position.map(|(_, column)| column),
        })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        if self.spans.is_empty() {
            return None;
        }
        Some(Box::new(self.spans.iter().enumerate().map(|(place, (span, label))| {
            if place == 0 {
                LabeledSpan::new_primary_with_span(label.clone(), span.clone())
            } else {
                LabeledSpan::new_with_span(label.clone(), span.clone())
            }
        })))
    }
}

/// Everything that is wrong with one configuration.
///
/// As a [`Diagnostic`] it shows each problem with its line; as [`fmt::Display`] it is one line per problem.
#[derive(Debug, Clone)]
pub struct Report {
    name: String,
    problems: Vec<Problem>,
}

impl Report {
    pub(super) fn new(name: impl Into<String>, problems: Vec<Problem>) -> Self {
        Self { name: name.into(), problems }
    }

    /// The problems, by their place in the file. Never empty.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// For programs: an array of [`Problem::to_json`].
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        self.problems.iter().map(Problem::to_json).collect()
    }

    fn headline(&self) -> String {
        match (self.problems.len(), self.problems.len().saturating_sub(SHOWN)) {
            (1, _) => format!("{} has a problem; nothing was touched", self.name),
            (count, 0) => format!("{} has {count} problems; nothing was touched", self.name),
            (count, _) => {
                format!(
                    "{} has {count} problems, of which these are the first {SHOWN}; nothing was touched",
                    self.name
                )
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        if f.alternate() {
            for problem in self.problems.iter().take(SHOWN) {
                match problem.position() {
                    Some((line, column)) => {
                        write!(f, "\n{}:{line}:{column}: {problem}", problem.file().unwrap_or(&self.name))?;
                    }
                    None => write!(f, "\n{}: {problem}", problem.place)?,
                }
                if let Some(help) = &problem.help {
                    write!(f, "\n  help: {help}")?;
                }
            }
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

impl Diagnostic for Report {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.problems.iter().take(SHOWN).map(|problem| problem as &dyn Diagnostic)))
    }
}

/// Where each place is in the text.
#[derive(Debug, Default)]
pub(super) struct Places(HashMap<String, (Arc<Source>, Span)>);

impl Places {
    pub(super) fn note(&mut self, place: &str, source: &Arc<Source>, span: Span) {
        self.0.insert(place.to_owned(), (source.clone(), span));
    }

    /// Makes `place` point where `other` points, unless it has a span of its own.
    pub(super) fn alias(&mut self, place: String, other: &str) {
        if !self.0.contains_key(&place)
            && let Some(found) = self.find(other)
        {
            self.0.insert(place, found);
        }
    }

    /// Lets each first place point where the second points. For lists of which an item was left out: the numbers of the
    /// others are not those of the text any more.
    pub(super) fn point(&mut self, moves: Vec<(String, String)>) {
        let found: Vec<_> =
            moves.into_iter().filter_map(|(place, other)| Some((place, self.find(&other)?))).collect();
        self.0.extend(found);
    }

    /// The span of the place, or of the nearest one around it.
    fn find(&self, place: &str) -> Option<(Arc<Source>, Span)> {
        let mut place = place;
        loop {
            if let Some(found) = self.0.get(place) {
                return Some(found.clone());
            }
            place = parent(place)?;
        }
    }
}

/// The place around a place; a quoted last part is taken as one.
fn parent(place: &str) -> Option<&str> {
    let cut = if let Some(open) = place.strip_suffix('"') { open.rfind(".\"")? } else { place.rfind('.')? };
    place.get(..cut)
}

/// The place of `key` within `place`, quoted as TOML wants it.
pub(super) fn join(place: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    match (place.is_empty(), bare) {
        (true, true) => key.to_owned(),
        (true, false) => format!("\"{}\"", key.escape_debug()),
        (false, true) => format!("{place}.{key}"),
        (false, false) => format!("{place}.\"{}\"", key.escape_debug()),
    }
}

/// Problems as they are collected.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn push(&mut self, problem: Problem) {
        if self.0.len() < KEPT {
            self.0.push(problem);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what the rules found, without echoes: a value that could not be read has its problem already, and what
    /// follows from its absence would only hide it.
    pub(super) fn extend_without_echoes(&mut self, found: Vec<Problem>) {
        let known: Vec<String> = self.0.iter().map(|problem| problem.place.clone()).collect();
        // An item of a list that could not be read is not in the spec: its number there is that of another.
        let item = |place: &str| place.rsplit('.').next().is_some_and(|last| last.parse::<u32>().is_ok());
        let touches = |place: &str| {
            let hit = |known: &String| match item(known) {
                true => known != place && within(known, place),
                false => within(known, place) || within(place, known),
            };
            known.iter().any(hit)
        };
        let echo = |problem: &Problem| {
            !problem.alone && touches(&problem.place) || problem.because.iter().any(|object| touches(object))
        };
        let news = |problem: &Problem| known.is_empty() || !echo(problem);
        let room = KEPT.saturating_sub(known.len());
        self.0.extend(found.into_iter().filter(news).take(room));
    }

    /// The problems in the order of the text, each said once.
    pub(super) fn finish(mut self, places: &Places) -> Vec<Problem> {
        for problem in &mut self.0 {
            problem.locate(places);
        }
        let order = |problem: &Problem| {
            let start = problem.spans.first().map_or(0, |(span, _)| span.start);
            (problem.file().map(str::to_owned), start, problem.place.clone())
        };
        self.0.sort_by_cached_key(order);
        let mut said = std::collections::HashSet::new();
        self.0.retain(|problem| {
            let span = problem.spans.first().map(|(span, _)| span.clone());
            let at = if span.is_some() { String::new() } else { problem.place.clone() };
            said.insert((span, at, problem.message.clone()))
        });
        self.0
    }
}

/// Whether `inner` is `outer` or inside it.
fn within(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The known word nearest to `word`, if it is near enough to have been meant.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A word of a hostile file may be long; no known one is.
    if word.len() > 64 {
        return None;
    }
    let folded = word.to_ascii_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&folded, &candidate.replace('-', "_")), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(folded.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_by_what_is_around_them() {
        let source = Arc::new(NamedSource::new("f", "abc".to_owned()));
        let mut places = Places::default();
        places.note("services.api", &source, 0..1);
        places.note("services.api.jail.\"ip4.addr\"", &source, 1..2);
        assert_eq!(places.find("services.api.jail.\"ip4.addr\".0").map(|found| found.1), Some(1..2));
        assert_eq!(places.find("services.api.jail.\"ip6.addr\"").map(|found| found.1), Some(0..1));
        assert_eq!(places.find("networks.a"), None);
    }

    #[test]
    fn a_slip_of_the_finger_is_recognised_and_another_word_is_not() {
        assert_eq!(nearest("replcias", ["replicas", "template"]), Some("replicas"));
        assert_eq!(nearest("depends-on", ["depends_on", "drain"]), Some("depends_on"));
        assert_eq!(nearest("colour", ["replicas", "drain"]), None);
    }
}
