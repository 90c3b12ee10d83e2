//! `warren logs INSTANCE`: what it printed. A log outlives its instance.

use super::client::segment;
use super::follow::interrupts;
use super::out::{self, Output};
use super::{Context, Fail};
use crate::keeper::logs::{Line, Origin};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// An instance: its name, its id, or its service if that has one instance
    #[arg(value_name = "INSTANCE")]
    name: String,
    /// Go on with what comes, until the instance is gone
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines
    #[arg(short = 'n', long, value_name = "N")]
    lines: Option<usize>,
    /// Say when, and which of its commands
    #[arg(short, long)]
    timestamps: bool,
    #[command(flatten)]
    pub output: Output,
}

pub async fn run(context: &Context, args: Args) -> Result<u8, Fail> {
    let mut path = format!("/v1/instances/{}/logs?follow={}", segment(&args.name), args.follow);
    if let Some(lines) = args.lines {
        path.push_str(&format!("&lines={lines}"));
    }
    let mut lines = context.client().stream(&path).await?;
    let mut interrupt = interrupts()?;
    loop {
        let line = tokio::select! {
            line = lines.next::<Line>() => line?,
            () = interrupt.recv() => return Ok(super::fail::INTERRUPTED),
        };
        let Some(line) = line else { return Ok(0) };
        if args.output.json {
            out::json_line(&line);
        } else if args.timestamps {
            let job = line.job.split_once('.').map_or(line.job.as_str(), |(_, job)| job);
            let text = out::plain(&line.line);
            let text = if line.stream == Origin::Out { text } else { out::warning(&text) };
            out::line(format_args!("{} {}  {text}", out::faint(&out::clock(line.at)), out::faint(job)));
        } else {
            print(&line);
        }
    }
}

/// A line to where it was meant to go. A part of a longer one gets no newline.
pub fn print(line: &Line) {
    // Without a terminal the bytes are somebody's data.
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    let text = if terminal { out::plain(&line.line) } else { line.line.clone() };
    match (line.stream, line.part) {
        (Origin::Out, false) => out::line(text),
        (Origin::Out, true) => out::raw(text.as_bytes()),
        (_, _) => out::note(text),
    }
}
