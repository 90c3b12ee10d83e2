//! What came of each check.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::{Fail, out};

/// One check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// Whether it held.
    pub ok: bool,
    /// How long it took, in milliseconds.
    pub ms: u64,
    /// What was seen.
    pub detail: String,
    /// Whether the sim's books stood in for packets and processes.
    pub stand_in: bool,
}

/// All of them.
pub struct Report {
    json: bool,
    begun: Instant,
    checks: Vec<Check>,
    stand_in: bool,
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Report {
    pub fn new(json: bool) -> Self {
        Self { json, begun: Instant::now(), checks: Vec::new(), stand_in: false }
    }

    /// Whether what is printed is for programs.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Says something to people.
    pub fn say(&self, text: &str) {
        if !self.json {
            out::line(text);
        }
    }

    /// The next check is one that the sim cannot make as it is meant.
    pub fn stand_in(&mut self) {
        self.stand_in = true;
    }

    /// Adds what came of a check that began then. Whether it held.
    pub fn add(&mut self, name: &str, begun: Instant, result: Result<String, Fail>) -> bool {
        let (ok, detail) = match result {
            Ok(detail) => (true, detail),
            Err(fail) => {
                let hint = fail.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
                (false, format!("{}{hint}", fail.message))
            }
        };
        let stand_in = std::mem::take(&mut self.stand_in);
        let check = Check { name: name.to_owned(), ok, ms: millis(begun), detail, stand_in };
        if !self.json {
            let mark = if ok { out::good("✓") } else { out::bad("✗") };
            let books = if stand_in { out::warning(" [books only]") } else { String::new() };
            let took = out::faint(&format!("({})", out::span(check.ms)));
            out::line(format_args!("{mark} {}: {}{books} {took}", check.name, check.detail));
        }
        self.checks.push(check);
        ok
    }

    /// Whether every check held.
    pub fn ok(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|check| check.ok)
    }

    /// Prints the summary.
    pub fn end(&self, host: &str) {
        let failed: Vec<&Check> = self.checks.iter().filter(|check| !check.ok).collect();
        let ms = millis(self.begun);
        if self.json {
            out::json(&json!({ "ok": self.ok(), "host": host, "ms": ms, "checks": self.checks }));
            return;
        }
        out::line("");
        let rows: Vec<[String; 3]> = (self.checks.iter())
            .map(|check| {
                let mark = if check.ok { "✓" } else { "✗" };
                let books = if check.stand_in { " [books only]" } else { "" };
                [mark.to_owned(), out::span(check.ms), format!("{}{books}", check.name)]
            })
            .collect();
        out::table(["", "TIME", "CHECK"], &rows);
        let held = self.checks.len() - failed.len();
        let text = format!("{held} of {} checks held, in {}", self.checks.len(), out::span(ms));
        out::line(if failed.is_empty() { out::good(&text) } else { out::bad(&text) });
        for check in failed {
            out::line(out::bad(&format!("✗ {}: {}", check.name, check.detail)));
        }
    }
}
