//! What is often behind a mistake: said where it can be seen, instead of what follows from it.

use std::sync::Arc;

use super::lex::Glued;
use crate::config::diagnostics::{Problem, Source};

/// The problems of one file, with what may have led to them. What leads to none becomes a remark.
pub(super) fn explain(
    mut problems: Vec<Problem>,
    source: &Arc<Source>,
    glued: &[Glued],
    remarks: &mut Vec<Problem>,
) -> Vec<Problem> {
    if !problems.is_empty()
        && let Some(section) = ini_section(source.inner())
    {
        let message = "this is an INI file, as fail2ban has one of the name jail.conf; it is not jail(8)'s";
        let problem = Problem::new("jail.conf::ini", "", message)
            .label("jail.conf has no sections")
            .help("give the file that jail(8) reads: /etc/jail.conf");
        return vec![problem.at(source, section)];
    }
    problems.sort_by_key(Problem::start);
    // What is not closed takes the text behind it along: that something is missing there is only an echo.
    let opened = |problem: &Problem| {
        matches!(
            problem.code,
            "jail.conf::open-comment" | "jail.conf::open-string" | "jail.conf::open-variable"
        )
    };
    if let Some(first) = problems.iter().find(|problem| opened(problem)).and_then(Problem::start) {
        problems.retain(|problem| {
            let echo = problem.start() >= Some(first) || problem.code == "jail.conf::open-block";
            opened(problem) || !echo
        });
    }
    for comment in glued {
        let opener = &source.inner()[comment.span.clone()];
        let why = match opener {
            "//" => "`//` begins a comment here",
            _ => "`/*` begins a comment here",
        };
        let help = match opener {
            "//" => "quote the value: \"…//…\" (without quotes it ends before the //)",
            _ => "quote the pattern: \"…/*.conf\" (without quotes the /* opens a comment)",
        };
        let follows = problems.iter_mut().find(|problem| problem.start() >= Some(comment.word));
        match follows {
            Some(problem) => problem.blame(source, comment.span.clone(), why, help),
            None => {
                let remark = Problem::new("jail.conf::comment-in-word", "", why)
                    .label("the value ends before this")
                    .help(help);
                remarks.push(remark.at(source, comment.span.clone()));
            }
        }
    }
    problems
}

/// The first line that is `[name]` and nothing else.
fn ini_section(text: &str) -> Option<std::ops::Range<usize>> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let plain = line.trim();
        let name = plain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        if name.is_some_and(|name| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-. ".contains(&b))
        }) {
            return Some(start..start + line.trim_end().len());
        }
        start += line.len();
    }
    None
}
