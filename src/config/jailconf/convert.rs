//! A jail.conf as a warren.toml that comes to the same plan.
//!
//! Every jail keeps its name, root, hooks and interfaces. Comments go with the jail they stand above or in; what Warren
//! could do in place of a hook is proposed in comments, because taking it up changes what happens.

use std::fmt::Write as _;
use std::sync::Arc;

use super::JailConf;
use super::lower::{Sink, Tables};
use super::names::is_wild;
use super::propose;
use super::tree::Comment;
use crate::config::diagnostics::Report;
use crate::config::jail::{JailTable, Setting};
use crate::config::shown::line;
use crate::config::spec::{CommandLine, ParamValue};
use crate::config::text::duration_text;

impl JailConf {
    /// The text of a warren.toml.
    ///
    /// # Errors
    ///
    /// What Warren cannot run, as [`JailConf::fabric`] says it.
    pub fn convert(&self) -> Result<String, Report> {
        // The rules of a fabric hold for what is written.
        self.fabric(&[])?;
        let mut sink = Sink::default();
        let all = self.tables(&[], &mut sink)?;
        let (head, by_block) = self.comments_by_block();
        let mut text = format!("# Converted from {} by `warren convert`.\n", self.name.escape_debug());
        remark(&mut text, &head);
        let _ = writeln!(text, "\nname = {}", quoted(&self.fabric_name()));
        for (jail, tables) in self.jails.iter().zip(&all) {
            let block = self.blocks.iter().position(|block| block.name == jail.name);
            text.push('\n');
            remark(&mut text, block.and_then(|block| by_block.get(block)).map_or(&[], Vec::as_slice));
            service(&mut text, tables);
            for proposal in propose::proposals(jail) {
                remark(&mut text, &[proposal]);
            }
        }
        Ok(text)
    }

    /// Comments that belong to no jail, and those of each block.
    fn comments_by_block(&self) -> (Vec<String>, Vec<Vec<String>>) {
        let mut by_block = vec![Vec::new(); self.blocks.len()];
        let mut head = Vec::new();
        for comment in &self.comments {
            let here = |block: &usize| Arc::ptr_eq(&self.blocks[*block].place.source, &comment.source);
            let jails = || (0..self.blocks.len()).filter(|n| !is_wild(&self.blocks[*n].name)).filter(here);
            let begin = |block: &usize| self.blocks[*block].place.span.start;
            // The innermost block around it, or the one that begins behind it with nothing between.
            let around =
                jails().filter(|n| begin(n) < comment.span.start && comment.span.end <= self.blocks[*n].end);
            let owner = around.max().or_else(|| jails().find(|n| self.leads_to(comment, begin(n))));
            match owner {
                Some(block) => by_block[block].push(plain(comment)),
                None => head.push(plain(comment)),
            }
        }
        (head, by_block)
    }

    /// Whether a comment stands right above a place: nothing but comments and white space between them.
    fn leads_to(&self, comment: &Comment, place: usize) -> bool {
        let text = comment.source.inner();
        let mut at = comment.span.end;
        while let Some(rest) = text.get(at..place) {
            let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n', '\'', '"']).len();
            // An empty line parts a comment from what stands below it.
            if rest[..blank].matches('\n').count() > 1 {
                return false;
            }
            at += blank;
            if at >= place {
                return true;
            }
            let next =
                |other: &&Comment| Arc::ptr_eq(&other.source, &comment.source) && other.span.start == at;
            match self.comments.iter().find(next) {
                Some(next) => at = next.span.end,
                None => return false,
            }
        }
        false
    }
}

/// A comment's text without what encloses it.
fn plain(comment: &Comment) -> String {
    let text = comment.source.inner().get(comment.span.clone()).unwrap_or_default();
    let text = match text.strip_prefix("/*") {
        Some(body) => body.strip_suffix("*/").unwrap_or(body),
        None => text.trim_start_matches('#').trim_start_matches("//"),
    };
    let lines = text.lines().map(|line| line.trim().trim_start_matches('*').trim());
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

/// Lines of a comment. A control character has no place in TOML's.
fn remark(text: &mut String, comments: &[String]) {
    for line in comments.iter().flat_map(|comment| comment.lines()) {
        let plain: String =
            line.chars().map(|char| if char.is_control() && char != '\t' { ' ' } else { char }).collect();
        let _ = writeln!(text, "# {}", plain.trim_end());
    }
}

fn service(text: &mut String, tables: &Tables) {
    let name = &tables.service;
    let _ = writeln!(text, "[templates.{name}]\nshared = {}\n", quoted(&tables.root.display().to_string()));
    let _ =
        writeln!(text, "[services.{name}]\ntemplate = {}\nrestart = \"no\"\ndrain = \"0s\"", quoted(name));
    if !tables.depends.is_empty() {
        let _ = writeln!(text, "depends_on = {}", list(tables.depends.iter()));
    }
    let _ = writeln!(text, "\n[services.{name}.jail]");
    settings(text, &tables.table);
    if !tables.mounts.is_empty() {
        let lines: Vec<String> = tables.mounts.iter().map(|(mount, _)| line(mount)).collect();
        let _ = writeln!(text, "\"mount\" = {}", list(lines.iter()));
    }
}

fn settings(text: &mut String, table: &JailTable) {
    for (name, setting) in &table.0 {
        let value = match &setting.value {
            Setting::Value(ParamValue::Bool(value)) => value.to_string(),
            Setting::Value(ParamValue::Int(value)) => value.to_string(),
            Setting::Value(ParamValue::Text(text)) => quoted(text),
            Setting::Value(ParamValue::List(all)) => list(all.iter()),
            Setting::Texts(texts) => list(texts.iter().map(|text| &text.value)),
            Setting::Commands(commands) => {
                let one = |command: &CommandLine| match command {
                    CommandLine::Shell(line) => quoted(line),
                    CommandLine::Argv(words) => list(words.iter()),
                };
                bracketed(commands.iter().map(one).collect())
            }
            Setting::Wait(wait) => quoted(&duration_text(*wait)),
        };
        let _ = writeln!(text, "{} = {value}", quoted(name));
    }
}

fn list<'a>(texts: impl Iterator<Item = &'a String>) -> String {
    bracketed(texts.map(|text| quoted(text)).collect())
}

/// On one line if it is short.
fn bracketed(items: Vec<String>) -> String {
    let line = format!("[{}]", items.join(", "));
    if line.len() <= 100 || items.len() < 2 { line } else { format!("[\n    {},\n]", items.join(",\n    ")) }
}

/// A basic string of TOML: JSON's escapes are among its own, but DEL may not stand in it.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}
