//! What is printed, and how: JSON, tables, colour on terminals only.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::OnceLock;

use clap::Args;
use serde::Serialize;

/// The option of everything that prints.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Output {
    /// Print JSON for programs: one value, or one to a line where it goes on
    #[arg(long)]
    pub json: bool,
}

/// Writes to standard output. A reader that went away ends the program quietly, as it does others.
pub fn raw(text: &[u8]) {
    let mut out = std::io::stdout().lock();
    if out.write_all(text).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Writes a line to standard output.
pub fn line(text: impl Display) {
    raw(format!("{text}\n").as_bytes());
}

/// Writes a line to standard error. Nobody there to read it is no reason to stop.
pub fn note(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Writes one JSON value: over several lines for a terminal, on one otherwise.
pub fn json(value: &impl Serialize) {
    let text = if std::io::stdout().is_terminal() {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    line(text.unwrap_or_default());
}

/// Writes one JSON value on one line.
pub fn json_line(value: &impl Serialize) {
    line(serde_json::to_string(value).unwrap_or_default());
}

/// Whether the terminal's user wants colour, if it is one. https://no-color.org: present and not empty.
fn wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
        && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}

fn coloured() -> bool {
    static COLOURED: OnceLock<bool> = OnceLock::new();
    *COLOURED.get_or_init(|| wanted() && std::io::stdout().is_terminal())
}

/// Whether standard error may be coloured.
pub fn errors_coloured() -> bool {
    wanted() && std::io::stderr().is_terminal()
}

fn paint(code: &str, text: &str) -> String {
    if coloured() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Something good.
pub fn good(text: &str) -> String {
    paint("32", text)
}

/// Something bad.
pub fn bad(text: &str) -> String {
    paint("31", text)
}

/// Something to look at.
pub fn warning(text: &str) -> String {
    paint("33", text)
}

/// Something less important.
pub fn faint(text: &str) -> String {
    paint("2", text)
}

/// Something more important.
pub fn strong(text: &str) -> String {
    paint("1", text)
}

/// Text that came from an instance or the API, without what could steer a terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// A table: columns as wide as they must be, the last one as long as it is.
pub fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) {
    let mut widths = heads.map(|h| h.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let text = |cells: [&str; N]| {
        let mut line = String::new();
        for (n, (cell, width)) in cells.iter().zip(widths).enumerate() {
            if n + 1 == N {
                line.push_str(cell);
            } else {
                line.push_str(&format!("{cell:width$}  "));
            }
        }
        line.trim_end().to_owned()
    };
    line(strong(&text(heads)));
    for row in rows {
        let plain: [String; N] = std::array::from_fn(|n| plain(&row[n]));
        line(text(std::array::from_fn(|n| plain[n].as_str())));
    }
}

/// A time since the epoch as the time of day in UTC: `20:31:39.125`.
#[must_use]
pub fn clock(millis: u64) -> String {
    let seconds = millis / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}.{:03}", seconds / 3600, seconds / 60 % 60, seconds % 60, millis % 1000)
}

/// A duration for people: `850 ms`, `12.3 s`, `4m07s`.
#[must_use]
pub fn span(millis: u64) -> String {
    match millis {
        0..1000 => format!("{millis} ms"),
        1000..60_000 => format!("{}.{} s", millis / 1000, millis % 1000 / 100),
        _ => format!("{}m{:02}s", millis / 60_000, millis / 1000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_and_right() {
        assert_eq!(span(850), "850 ms");
        assert_eq!(span(12_345), "12.3 s");
        assert_eq!(span(247_000), "4m07s");
        assert_eq!(clock(86_400_000 + 3_723_004), "01:02:03.004");
    }

    #[test]
    fn nothing_that_steers_a_terminal_comes_through() {
        assert_eq!(plain("a\x1b[2Jb"), "a\u{fffd}[2Jb");
    }
}
