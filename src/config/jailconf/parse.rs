//! From tokens to blocks, by the grammar of jail(8) (`usr.sbin/jail/jailparse.y` of FreeBSD 15, which has nested blocks
//! and `.include`), going on after an error so that all are told at once.
//!
//! One thing is taken from 13.2 and the manual instead: parameters outside a block form a new global block wherever they
//! stand, so that those below a jail win over what the jail says. In 15's grammar they all join the first one, which
//! jail.conf(5) of the same release contradicts. [`Parsed::globals_below`] remembers where that matters.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::NamedSource;

use super::files::{Files, Included, included};
use super::hints;
use super::lex::{Kind, Lexer, Token, Trouble};
use super::names::{self, INTERNAL, is_wild, same_param};
use super::tree::{Assign, Block, Comment, Place, Str, Var};
use crate::config::diagnostics::{Problem, Source, Span, join};
use crate::config::text::shown;

/// The one statement that is no parameter.
const INCLUDE: &str = ".include";
/// Parameters whose values are words and never hold a blank: two words there are two values.
const LISTS: [&str; 5] = ["ip4.addr", "ip6.addr", "depend", "vnet.interface", "zfs.dataset"];
/// As deep as jail(8) goes.
const DEEPEST: usize = 32;
/// More files than anyone has, few enough to bear.
const MOST_FILES: usize = 100_000;
/// Blocks within blocks; the kernel's own limit for nested jails is 16.
const DEEPEST_BLOCK: usize = 64;

/// All files, parsed.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    pub(super) blocks: Vec<Block>,
    pub(super) comments: Vec<Comment>,
    pub(super) problems: Vec<Problem>,
    /// What is legal but may not be meant.
    pub(super) remarks: Vec<Problem>,
    /// The first block that parameters outside any block made.
    pub(super) globals: Option<usize>,
    /// Global parameters that stand below a jail: releases disagree on what they mean.
    /// By block and number of the parameter.
    pub(super) globals_below: Vec<(usize, usize)>,
    /// Every file that was read, in the order of reading.
    pub(super) files: Vec<PathBuf>,
}

/// Parses `bytes`, the file `path`, and all it includes.
pub(super) fn parse(path: &Path, bytes: Vec<u8>, files: &mut dyn Files) -> Parsed {
    let (open, stack) = (Vec::new(), Vec::new());
    let mut parser = Parser { out: Parsed::default(), files, open, stack, stop: false };
    parser.file(path, bytes);
    parser.out
}

struct Parser<'f> {
    out: Parsed,
    files: &'f mut dyn Files,
    /// The blocks that are open, by their place in `out.blocks`. An included file adds to the block around its `.include`.
    open: Vec<usize>,
    /// The files that are being read.
    stack: Vec<PathBuf>,
    /// Whether to give up: an include too many.
    stop: bool,
}

/// One file while it is read.
struct Reading<'a> {
    lexer: Lexer<'a>,
    source: Arc<Source>,
    token: Token,
    /// The end of the token before: where something is missing.
    before: Span,
}

impl Reading<'_> {
    fn advance(&mut self) -> Token {
        let next = self.lexer.next();
        if self.token.kind != Kind::End {
            self.before = self.token.span.clone();
        }
        std::mem::replace(&mut self.token, next)
    }

    fn is(&self, sign: u8) -> bool {
        self.token.kind == Kind::Sign(sign)
    }

    fn place(&self, span: Span) -> Place {
        Place { source: self.source.clone(), span }
    }

    /// Whether a line ends between the last token and this one.
    fn new_line(&self) -> bool {
        let text = self.source.inner().as_bytes();
        text.get(self.before.end..self.token.span.start).is_none_or(|gap| gap.contains(&b'\n'))
    }
}

impl Parser<'_> {
    fn file(&mut self, path: &Path, bytes: Vec<u8>) {
        // What is not UTF-8 may stand in comments. Shown texts have a mark for each such byte, so that places stay right.
        let text = match String::from_utf8(bytes.clone()) {
            Ok(text) => text,
            Err(_) => mask(&bytes),
        };
        let source = Arc::new(NamedSource::new(path.display().to_string(), text));
        self.out.files.push(path.to_owned());
        self.stack.push(path.to_owned());
        let depth = self.open.len();
        let mut lexer = Lexer::new(&bytes);
        let token = lexer.next();
        let mut reading = Reading { lexer, source, token, before: 0..0 };
        let known = self.out.problems.len();
        while reading.token.kind != Kind::End && !self.stop {
            if self.out.problems.len() > 200 {
                break;
            }
            self.item(&mut reading, depth);
        }
        while self.open.len() > depth {
            if let Some(block) = self.open.pop().filter(|_| !self.stop) {
                let place = &self.out.blocks[block].place;
                let name = shown(&self.out.blocks[block].name);
                let problem =
                    Problem::new("jail.conf::open-block", "", format!("the block of `{name}` is not closed"))
                        .label("opened here")
                        .help("add a `}` at its end")
                        .at(&place.source, place.span.clone());
                self.out.problems.push(problem);
            }
        }
        self.troubles(&reading);
        let found = self.out.problems.split_off(known);
        let found = hints::explain(found, &reading.source, &reading.lexer.glued, &mut self.out.remarks);
        self.out.problems.extend(found);
        let source = &reading.source;
        let comments = reading.lexer.comments.into_iter();
        self.out.comments.extend(comments.map(|span| Comment { source: source.clone(), span }));
        self.stack.pop();
    }

    /// What the scanner could not make sense of.
    fn troubles(&mut self, reading: &Reading<'_>) {
        for (trouble, span) in &reading.lexer.troubles {
            let (code, message, help) = match trouble {
                Trouble::Comment => (
                    "jail.conf::open-comment",
                    "a comment is not closed: the rest of the file is part of it",
                    "close it with */, or quote the value if a pattern like /etc/jail.conf.d/*.conf was meant",
                ),
                Trouble::String => (
                    "jail.conf::open-string",
                    "a quote is not closed",
                    "close it, or write \\ before a quote that stands for itself",
                ),
                Trouble::Var => (
                    "jail.conf::open-variable",
                    "a variable is not closed",
                    "write ${name}, or '…' around text in which $ stands for itself",
                ),
            };
            let problem = Problem::new(code, "", message).label("opened here").help(help);
            self.out.problems.push(problem.at(&reading.source, span.clone()));
        }
    }

    /// One block, parameter, `;` or `}`.
    fn item(&mut self, r: &mut Reading<'_>, depth: usize) {
        match &r.token.kind {
            Kind::Sign(b';') => {
                r.advance();
            }
            Kind::Sign(b'}') if self.open.len() > depth => {
                if let Some(block) = self.open.pop() {
                    self.out.blocks[block].end = r.token.span.start;
                }
                r.advance();
            }
            Kind::Sign(b'}') => {
                let problem = Problem::new("jail.conf::syntax", "", "this `}` closes nothing");
                let help = "remove it, or look for a block above that was closed too early";
                self.wrong(r, problem.label("no block is open here").help(help));
                r.advance();
            }
            Kind::Text(_) | Kind::Var(_) => self.statement(r),
            _ => {
                self.unexpected(r, "a jail's or a parameter's name");
                recover(r);
            }
        }
    }

    fn statement(&mut self, r: &mut Reading<'_>) {
        let first = r.advance();
        let (name, var) = match first.kind {
            Kind::Var(name) => (name, true),
            Kind::Text(text) => (text, false),
            _ => return,
        };
        let Some(name) = self.utf8(name, r, &first.span) else {
            recover(r);
            return;
        };
        if r.is(b'{') && !var {
            r.advance();
            return self.block(name, first.span, r);
        }
        if !var && r.token.joined && self.wildcard(&name, &first.span, r) {
            return;
        }
        let mut assign = Assign {
            kind: names::kind(&name),
            taken: var && INTERNAL.iter().any(|known| same_param(&name, known)),
            name: name.into(),
            var,
            append: false,
            values: Vec::new(),
            source: r.source.clone(),
            span: first.span,
        };
        let mut bare = false;
        let mut split = None;
        match r.token.kind {
            Kind::Sign(b'=') => {
                r.advance();
            }
            Kind::Append => {
                r.advance();
                assign.append = true;
            }
            Kind::Text(_) | Kind::Var(_) if !r.token.joined => {
                bare = true;
                split = r.new_line().then(|| r.before.clone());
            }
            _ => return self.ended(assign, false, r),
        }
        loop {
            let known = self.out.problems.len();
            match self.string(r) {
                Some(string) => assign.values.push(string),
                None => {
                    // Of one that is no text it has been said.
                    if self.out.problems.len() == known && r.is(b'{') {
                        let message =
                            format!("there is no `=` before the block of `{}`", shown(&assign.name));
                        let problem =
                            Problem::new("jail.conf::syntax", "", message).label("a block begins here");
                        let help = format!("write {} {{ … }}", shown(&assign.name));
                        self.wrong(r, problem.help(help));
                    } else if self.out.problems.len() == known {
                        self.unexpected(r, "a value");
                    }
                    return recover(r);
                }
            }
            if !r.is(b',') {
                break;
            }
            r.advance();
        }
        if let Some(name) = split {
            // The value stands on a line of its own. If it is followed by what follows a name, it is one.
            let named = matches!(r.token.kind, Kind::Append | Kind::Sign(b'=' | b'{'));
            let known = |value: &Str| value.vars.is_empty() && names::kind(&value.text).is_some();
            let likely = assign.values.len() == 1 && assign.values.first().is_some_and(known);
            if assign.values.len() == 1 && (named || likely && !r.is(b';')) {
                self.missing(&assign.name, name, r);
                return recover(r);
            }
            if likely && let Some(value) = assign.values.first() {
                let (taker, taken) = (shown(&assign.name), shown(&value.text));
                let message = format!("`{taken}` is the value of `{taker}` here");
                let problem = Problem::new("jail.conf::swallowed", "", message)
                    .label("a parameter's name, on a line of its own")
                    .help(format!("a `;` is missing after `{taker}`"));
                self.out.remarks.push(problem.at(&r.source, value.span.clone()));
            }
        }
        self.ended(assign, bare, r);
    }

    fn missing(&mut self, name: &str, end: Span, r: &Reading<'_>) {
        let message = format!("a `;` is missing after `{}`", shown(name));
        let problem = Problem::new("jail.conf::missing-semicolon", "", message)
            .label("`;` is expected behind this")
            .help("every parameter ends with a `;`, also the last of a block");
        self.out.problems.push(problem.at(&r.source, end));
    }

    /// `foo.*` without quotes: two pieces to the scanner, and so an error to jail(8), but it can mean only one thing.
    fn wildcard(&mut self, name: &str, span: &Span, r: &mut Reading<'_>) -> bool {
        let text = &r.source.inner().as_bytes()[span.start..];
        let length = text.iter().position(|b| b" \t\r\n{;=+,#\"'$/".contains(b)).unwrap_or(text.len());
        let Some(whole) =
            std::str::from_utf8(&text[..length]).ok().filter(|w| w.starts_with(name) && is_wild(w))
        else {
            return false;
        };
        let whole = whole.to_owned();
        let end = span.start + length;
        while r.token.span.start < end && r.token.kind != Kind::End {
            r.advance();
        }
        if !r.is(b'{') {
            self.unexpected(r, "the `{` of a block");
            recover(r);
            return true;
        }
        r.advance();
        self.block(whole, span.start..end, r);
        true
    }

    fn block(&mut self, name: String, span: Span, r: &Reading<'_>) {
        let name = match self.open.last() {
            Some(parent) => format!("{}.{name}", self.out.blocks[*parent].name),
            None => name,
        };
        if self.open.len() >= DEEPEST_BLOCK {
            self.stop = true;
            let message = format!("blocks are nested deeper than {DEEPEST_BLOCK} levels");
            let problem = Problem::new("jail.conf::depth", "", message);
            return self.out.problems.push(problem.at(&r.source, span));
        }
        self.open.push(self.out.blocks.len());
        self.out.blocks.push(Block { name, params: Vec::new(), end: span.end, place: r.place(span) });
    }

    /// A string: pieces without white space between them.
    fn string(&mut self, r: &mut Reading<'_>) -> Option<Str> {
        let start = r.token.span.start;
        let (mut string, mut bytes) = (Str::default(), Vec::new());
        let mut first = true;
        loop {
            let piece = match &r.token.kind {
                Kind::Text(_) | Kind::Var(_) if first || r.token.joined => r.advance(),
                _ => break,
            };
            first = false;
            string.span = start..piece.span.end;
            match piece.kind {
                Kind::Var(name) => {
                    let name = self.utf8(name, r, &piece.span)?;
                    string.vars.push(Var { name, at: bytes.len(), span: piece.span });
                }
                Kind::Text(text) if bytes.is_empty() => bytes = text,
                Kind::Text(text) => bytes.extend(text),
                _ => break,
            }
        }
        if first {
            return None;
        }
        let text = self.utf8(bytes, r, &string.span)?;
        // A character that a variable parts is none.
        if !string.vars.iter().all(|var| text.is_char_boundary(var.at)) {
            self.not_utf8(r, &string.span);
            return None;
        }
        string.text = text.into();
        Some(string)
    }

    /// A parameter is whole: `;` must follow.
    fn ended(&mut self, assign: Assign, bare: bool, r: &mut Reading<'_>) {
        if r.is(b';') {
            r.advance();
            return self.add(assign, bare, r);
        }
        let name = shown(&assign.name);
        let value = assign.values.last().map(|value| value.span.clone());
        let next_line = r.new_line() || matches!(r.token.kind, Kind::End | Kind::Sign(b'}'));
        if !next_line {
            let problem = match (&r.token.kind, value) {
                (Kind::Text(_) | Kind::Var(_), Some(value)) => {
                    let rest = &r.source.inner()[value.start..];
                    let whole = &rest[..rest.find([';', '\n']).unwrap_or(rest.len())];
                    let words: Vec<&str> = whole.split_ascii_whitespace().collect();
                    let whole = shown(whole.trim_end().trim_matches(['"', '\'']));
                    let help = match LISTS.contains(&&*assign.name) {
                        true => format!(
                            "several values have `,` between them: {name} = {};",
                            shown(&words.join(", "))
                        ),
                        false => format!("a value with blanks is quoted: {name} = \"{whole}\";"),
                    };
                    Problem::new(
                        "jail.conf::syntax",
                        "",
                        format!("`{name}` has a second value without a comma"),
                    )
                    .label("not expected here")
                    .help(help)
                }
                _ => {
                    self.unexpected(r, "a `;`");
                    return recover(r);
                }
            };
            self.wrong(r, problem);
            return recover(r);
        }
        self.missing(&assign.name, r.before.clone(), r);
        // The next line is read as if it had been there; but what to include is uncertain.
        if *assign.name != *INCLUDE {
            self.add(assign, bare, r);
        }
    }

    fn add(&mut self, assign: Assign, bare: bool, r: &Reading<'_>) {
        if bare && !assign.var && *assign.name == *INCLUDE {
            return self.include(&assign, r);
        }
        let like = *assign.name == *INCLUDE || bare && *assign.name == INCLUDE[1..];
        if let Some(value) = assign.values.first().filter(|_| like && !assign.var) {
            let message =
                format!("this `{}` includes nothing: it is taken for a parameter", shown(&assign.name));
            let problem = Problem::new("jail.conf::no-include", "", message)
                .help(format!("write .include \"{}\";", shown(&value.text)));
            self.out.remarks.push(problem.at(&r.source, assign.span.clone()));
        }
        let block = match self.open.last() {
            Some(block) => *block,
            None => {
                if self.out.blocks.last().is_none_or(|last| last.name != "*") {
                    let place = r.place(assign.span.clone());
                    self.out.blocks.push(Block {
                        name: "*".into(),
                        params: Vec::new(),
                        place,
                        end: assign.span.end,
                    });
                }
                let block = self.out.blocks.len() - 1;
                if *self.out.globals.get_or_insert(block) != block {
                    self.out.globals_below.push((block, self.out.blocks[block].params.len()));
                }
                block
            }
        };
        self.out.blocks[block].params.push(assign);
    }

    fn include(&mut self, assign: &Assign, r: &Reading<'_>) {
        for value in &assign.values {
            let at = |problem: Problem| problem.at(&r.source, value.span.clone());
            if !value.vars.is_empty() {
                let problem =
                    Problem::new("jail.conf::include", "", "the name of an included file has a variable");
                let help = "files are read before variables have values: write the name out, or a pattern like *.conf";
                self.out.problems.push(at(problem.help(help)));
                continue;
            }
            let from = self.stack.last().cloned().unwrap_or_default();
            let (paths, pattern) = match included(&value.text, &from, self.files) {
                Included::File(path) => (vec![path], false),
                Included::Matches(paths) => (paths, true),
            };
            for path in paths {
                if self.stop {
                    return;
                }
                let refused = if self.stack.contains(&path) {
                    Some(format!("{} includes itself", path.display()))
                } else if self.stack.len() > DEEPEST {
                    Some(format!("files include each other more than {DEEPEST} deep"))
                } else if self.out.files.len() >= MOST_FILES {
                    Some(format!("more than {MOST_FILES} files are included"))
                } else {
                    None
                };
                if let Some(why) = refused {
                    self.stop = true;
                    let chain: Vec<String> =
                        self.stack.iter().map(|path| path.display().to_string()).collect();
                    let help = format!("it came here by {}", chain.join(", "));
                    return self
                        .out
                        .problems
                        .push(at(Problem::new("jail.conf::include", "", why).help(help)));
                }
                match self.files.read(&path) {
                    Ok(bytes) => self.file(&path, bytes),
                    Err(error) => {
                        let message = format!("{} cannot be read: {error}", path.display());
                        let problem = Problem::new("jail.conf::include", "", message);
                        let help = match pattern {
                            true => {
                                "jail(8) stops here too: make it readable, or let the pattern not match it"
                            }
                            false => "a name without a pattern must be there; \"name[.]conf\" may be absent",
                        };
                        self.out.problems.push(at(problem.help(help)));
                    }
                }
            }
        }
    }

    fn wrong(&mut self, r: &Reading<'_>, problem: Problem) {
        self.out.problems.push(problem.at(&r.source, r.token.span.clone()));
    }

    fn unexpected(&mut self, r: &Reading<'_>, wanted: &str) {
        let found = match &r.token.kind {
            Kind::End => "the end of the file".to_owned(),
            Kind::Stray(byte) if *byte >= 0x80 => "a character that must be quoted".to_owned(),
            _ => format!("`{}`", shown(r.source.inner().get(r.token.span.clone()).unwrap_or("?"))),
        };
        let problem = Problem::new("jail.conf::syntax", "", format!("{wanted} is expected, not {found}"));
        self.wrong(r, problem.label("here"));
    }

    /// Text that goes on: it must be UTF-8, which jail(8) does not ask for.
    fn utf8(&mut self, bytes: Vec<u8>, r: &Reading<'_>, span: &Span) -> Option<String> {
        let text = String::from_utf8(bytes).ok();
        if text.is_none() {
            self.not_utf8(r, span);
        }
        text
    }

    fn not_utf8(&mut self, r: &Reading<'_>, span: &Span) {
        let problem = Problem::new("jail.conf::utf8", "", "this is not UTF-8").help("save the file as UTF-8");
        self.out.problems.push(problem.at(&r.source, span.clone()));
    }
}

/// Goes on behind the next `;`, or before a brace.
fn recover(r: &mut Reading<'_>) {
    loop {
        match r.token.kind {
            Kind::End | Kind::Sign(b'}') => return,
            Kind::Sign(b';') => {
                r.advance();
                return;
            }
            Kind::Sign(b'{') => {
                // A block whose name was wrong: what it holds is not what is wrong.
                let mut depth = 0_usize;
                while r.token.kind != Kind::End {
                    match r.advance().kind {
                        Kind::Sign(b'{') => depth += 1,
                        Kind::Sign(b'}') => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 {
                        return;
                    }
                }
                return;
            }
            _ => {
                r.advance();
            }
        }
    }
}

/// Text of the same length, with a mark for each byte that is not part of a character.
fn mask(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(std::iter::repeat_n('?', chunk.invalid().len()));
    }
    text
}

/// Where a problem with a jail's parameter is, in the terms of the file.
pub(super) fn param_place(jail: &str, param: &str) -> String {
    join(&join("", jail), param)
}

/// The blocks of jails that were defined before.
pub(super) fn doubles(blocks: &[Block]) -> Vec<usize> {
    let mut seen = HashSet::new();
    let jails = blocks.iter().enumerate().filter(|(_, block)| !is_wild(&block.name));
    jails.filter(|(_, block)| !seen.insert(block.name.as_str())).map(|(number, _)| number).collect()
}
