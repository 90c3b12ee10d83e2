//! Waiting for a fabric to be as it should: follows the events, shows progress, says what went wrong.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::client::{Lines, segment};
use super::fail::{FAILED, Fail, INTERRUPTED, LEFT, TIMEOUT};
use super::out::Output;
use super::{Client, events, out};
use crate::daemon::api::view::{Fabric, Instance, Service};
use crate::store::db::Event;

/// How often the fabric is looked at when something happened.
const LOOK: Duration = Duration::from_millis(40);
/// How often it is looked at when nothing did.
const IDLE: Duration = Duration::from_millis(500);
/// How long nothing must happen until what is stuck counts as stuck.
const QUIET: Duration = Duration::from_millis(1500);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// All that is wanted is ready, and nothing else there.
    Settled,
    /// Nothing of it is there.
    Gone,
    /// One or the other: after a cancellation.
    Either,
}

/// How the waiting ended.
#[derive(Debug)]
pub enum Ended {
    /// The goal is reached; the fabric, if it is there.
    Reached(Option<Fabric>),
    /// Something stands in the way and will not go by itself.
    Stuck(Fabric),
    /// It took too long.
    TimedOut,
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

/// Follows one fabric.
pub struct Watch {
    client: Client,
    fabric: String,
    lines: Lines,
    output: Output,
    bar: Option<ProgressBar>,
    begun: Instant,
    timeout: Option<Duration>,
    interrupt: Interrupts,
    /// Whether Ctrl-C came while an answer was waited for.
    interrupted: bool,
    /// Whether nothing is printed while it goes well.
    quiet: bool,
    /// What went wrong, in order.
    failures: Vec<String>,
    /// Instances that went.
    undone: Vec<String>,
}

impl Watch {
    /// Begins to follow: what happens after this returns is seen, and Ctrl-C no longer ends the program.
    pub async fn begin(
        client: &Client,
        fabric: &str,
        output: Output,
        timeout: Option<Duration>,
    ) -> Result<Self, Fail> {
        let lines = client.stream("/v1/events?follow=true&now=true").await?;
        let interrupt = interrupts()?;
        let bar = (!output.json && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) =
                ProgressStyle::with_template("{spinner} {wide_bar:.green/dim} {pos}/{len} ready {msg}")
            {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Ok(Self {
            client: client.clone(),
            fabric: fabric.to_owned(),
            lines,
            output,
            bar,
            begun: Instant::now(),
            timeout,
            interrupt,
            interrupted: false,
            quiet: false,
            failures: Vec::new(),
            undone: Vec::new(),
        })
    }

    /// Prints nothing from now on, but what went wrong in the end.
    pub fn quiet(&mut self) {
        self.finish();
        (self.quiet, self.bar) = (true, None);
    }

    /// Waits for the answer to what is asked for. Ctrl-C meanwhile is taken up by `until`, which knows what it means; at a second one
    /// the answer is waited for no longer: a daemon whose disk is full has none.
    pub async fn asking<T>(&mut self, asked: impl Future<Output = Result<T, Fail>>) -> Result<T, Fail> {
        match self.interrupt.during(asked).await {
            Ok((answer, interrupted)) => {
                self.interrupted |= interrupted;
                Ok(answer)
            }
            Err(fail) => {
                self.finish();
                Err(fail)
            }
        }
    }

    /// Counts something as gone wrong that no event tells of.
    pub fn missed(&mut self, what: String) {
        self.failures.push(what);
    }

    /// What went wrong so far, in one line.
    #[must_use]
    pub fn troubles(&self) -> String {
        self.failures.join("; ")
    }

    /// The fabric now; none if it is gone.
    async fn look(&self) -> Result<Option<Fabric>, Fail> {
        match self.client.get(&format!("/v1/fabrics/{}", segment(&self.fabric))).await {
            Ok(fabric) => Ok(Some(fabric)),
            Err(fail) if fail.kind == "not-found" => Ok(None),
            Err(fail) => Err(fail),
        }
    }

    /// Waits. With `interruptible`, Ctrl-C ends the waiting; otherwise it ends the program, and the daemon goes on.
    pub async fn until(&mut self, goal: Goal, interruptible: bool) -> Result<Ended, Fail> {
        if std::mem::take(&mut self.interrupted) {
            return self.interruption(interruptible);
        }
        let deadline = self.timeout.map(|timeout| self.begun + timeout);
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut happened, mut looked, mut last_event) = (true, Instant::now(), Instant::now());
        loop {
            tokio::select! {
                event = self.lines.next::<Event>() => match event? {
                    Some(event) => {
                        if self.take(&event) {
                            happened |= !is_midway(&event);
                            last_event = Instant::now();
                        }
                    }
                    None => {
                        self.finish();
                        return Err(Fail::of(FAILED, "unreachable", "the daemon ended while it was waited for")
                            .hint("`warren daemon` or `warren up` starts one again: it takes up what was under way"));
                    }
                },
                () = self.interrupt.recv() => return self.interruption(interruptible),
                _ = tick.tick() => {
                    if happened || looked.elapsed() > IDLE {
                        (happened, looked) = (false, Instant::now());
                        if let Some(ended) = self.judge(goal, last_event).await? {
                            return Ok(ended);
                        }
                    }
                    if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                        return Ok(Ended::TimedOut);
                    }
                }
            }
        }
    }

    fn interruption(&self, interruptible: bool) -> Result<Ended, Fail> {
        if interruptible {
            return Ok(Ended::Interrupted);
        }
        self.finish();
        Err(Fail::of(INTERRUPTED, "interrupted", "no longer waited for; the daemon goes on with it"))
    }

    async fn judge(&self, goal: Goal, last_event: Instant) -> Result<Option<Ended>, Fail> {
        let Some(fabric) = self.look().await? else {
            // One that went while it was to come up was taken down by somebody else.
            let reached = goal != Goal::Settled;
            return if reached {
                Ok(Some(Ended::Reached(None)))
            } else {
                Err(Fail::new(format!("somebody took {} down meanwhile", self.fabric)))
            };
        };
        self.show(&fabric);
        if fabric.settled && goal != Goal::Gone {
            return Ok(Some(Ended::Reached(Some(fabric))));
        }
        if !fabric.stuck.is_empty() && last_event.elapsed() > QUIET {
            return Ok(Some(Ended::Stuck(fabric)));
        }
        Ok(None)
    }

    fn show(&self, fabric: &Fabric) {
        let Some(bar) = &self.bar else { return };
        let (ready, wanted) = counts(fabric);
        bar.set_length(wanted);
        bar.set_position(ready);
        let waiting: Vec<String> = (fabric.services.iter())
            .filter(|s| s.ready < s.wanted as usize)
            .map(|s| format!("{} {}/{}", s.name, s.ready, s.wanted))
            .collect();
        bar.set_message(waiting.join(", "));
    }

    /// Takes an event in; whether it is of this fabric.
    fn take(&mut self, event: &Event) -> bool {
        let text = |key: &str| event.what.get(key).and_then(Value::as_str);
        if text("fabric") != Some(&self.fabric) {
            return false;
        }
        let kind = text("kind").unwrap_or_default();
        let sentence = events::sentence(event);
        match kind {
            "step-failed" | "trouble" | "left" | "stop-aborted" | "network-failed" | "policy-failed" => {
                self.failures.push(sentence.clone());
            }
            "gone" => self.undone.extend(text("name").map(str::to_owned)),
            _ => {}
        }
        if self.quiet {
        } else if self.output.json {
            out::json_line(event);
        } else if self.bar.is_none() || events::is_bad(kind) {
            let line = if events::is_bad(kind) { out::bad(&sentence) } else { sentence };
            self.say(&line);
        }
        true
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| out::line(line)),
            None => out::line(line),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Says how it ended, and gives the exit status.
    pub async fn report(&mut self, verb: &str, ended: Ended) -> Result<u8, Fail> {
        self.finish();
        let (code, fabric, headline) = match ended {
            Ended::Reached(fabric) => {
                let what = match &fabric {
                    Some(fabric) => {
                        let (ready, wanted) = counts(fabric);
                        format!("{}: {ready} of {wanted} ready, after {}", self.fabric, self.elapsed())
                    }
                    None => format!("{} is gone, after {}", self.fabric, self.elapsed()),
                };
                (0, fabric, what)
            }
            Ended::Stuck(fabric) => {
                let left = !self.left(&fabric).await?.is_empty();
                let code = if left && verb != "up" { LEFT } else { FAILED };
                (code, Some(fabric), format!("{verb} {}: it did not work", self.fabric))
            }
            Ended::TimedOut => {
                let text = format!(
                    "{verb} {}: not done after {}; the daemon goes on with it",
                    self.fabric,
                    self.elapsed()
                );
                (TIMEOUT, self.look().await?, text)
            }
            Ended::Interrupted => {
                (INTERRUPTED, self.look().await?, format!("{verb} {}: interrupted", self.fabric))
            }
        };
        self.summary(code, fabric.as_ref(), &headline).await?;
        Ok(code)
    }

    /// Says that there was nothing to do.
    pub async fn idle(&mut self, headline: &str) -> Result<u8, Fail> {
        self.finish();
        let fabric = self.look().await?;
        self.summary(0, fabric.as_ref(), headline).await?;
        Ok(0)
    }

    fn elapsed(&self) -> String {
        out::span(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// What was left behind, with the unit it is of.
    async fn left(&self, fabric: &Fabric) -> Result<Vec<String>, Fail> {
        let instances: Vec<Instance> = self.client.get("/v1/instances").await?;
        let of_instances = (instances.iter())
            .filter(|i| i.fabric == self.fabric)
            .flat_map(|i| i.left.iter().map(move |left| format!("{}: {left}", i.name)));
        let of_networks = fabric
            .networks
            .iter()
            .flat_map(|n| n.left.iter().map(move |left| format!("network {}: {left}", n.name)));
        Ok(of_instances.chain(of_networks).collect())
    }

    /// Prints the end: one JSON object, or a sentence and, if it is not what was wanted, the reasons.
    pub async fn summary(&self, code: u8, fabric: Option<&Fabric>, headline: &str) -> Result<(), Fail> {
        let stuck = fabric.map(|f| f.stuck.clone()).unwrap_or_default();
        let drift: Vec<String> = fabric.into_iter().flat_map(Fabric::drift).collect();
        let left = match fabric {
            // Whatever is left behind stands in the way.
            Some(fabric) if code != 0 || !stuck.is_empty() => self.left(fabric).await?,
            _ => Vec::new(),
        };
        if self.output.json {
            let (ready, wanted) = fabric.map_or((0, 0), counts);
            out::json_line(&json!({
                "kind": "result", "fabric": self.fabric, "ok": code == 0, "exit": code, "text": headline,
                "ms": u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
                "ready": ready, "wanted": wanted, "present": fabric.is_some(),
                "failed": self.failures, "undone": self.undone, "stuck": stuck, "left": left,
            }));
            return Ok(());
        }
        if code == 0 {
            out::line(out::good(headline));
        } else {
            out::note(headline);
            section("what failed", &self.failures);
            section("what stands in the way", &stuck);
            section("what is not as it should be", &drift);
            section("what was undone", &self.undone);
        }
        section("what is left", &left);
        if !left.is_empty() {
            out::note("`warren repair` tries again to take it away");
        }
        Ok(())
    }
}

/// Whether the fabric cannot be settled, stuck or gone by this alone, so that it need not be looked at.
fn is_midway(event: &Event) -> bool {
    let kind = event.what.get("kind").and_then(Value::as_str).unwrap_or_default();
    ["created", "starting", "running", "stopping", "lease", "remark"].contains(&kind)
}

/// How many are ready, and how many are wanted.
fn counts(fabric: &Fabric) -> (u64, u64) {
    let ready = fabric.services.iter().map(|s| s.ready as u64).sum();
    // What is done is wanted no more.
    let of = |s: &Service| if s.done { s.ready as u64 } else { u64::from(s.wanted) };
    let wanted = fabric.services.iter().map(of).sum();
    (ready, wanted)
}

fn section(head: &str, lines: &[String]) {
    const MOST: usize = 12;
    if lines.is_empty() {
        return;
    }
    out::note(format_args!("{head}:"));
    let mut told = BTreeSet::new();
    let fresh: Vec<&String> = lines.iter().filter(|line| told.insert(line.as_str())).collect();
    for line in fresh.iter().take(MOST) {
        out::note(format_args!("  {}", out::plain(line)));
    }
    if fresh.len() > MOST {
        out::note(format_args!("  … and {} more", fresh.len() - MOST));
    }
}

/// Ctrl-C, and being asked to end.
pub struct Interrupts {
    int: tokio::signal::unix::Signal,
    term: tokio::signal::unix::Signal,
}

impl Interrupts {
    /// The next one.
    pub async fn recv(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
        }
    }

    /// An answer, and whether one came while it was waited for. At the second it is waited for no longer.
    pub async fn during<T>(
        &mut self,
        asked: impl Future<Output = Result<T, Fail>>,
    ) -> Result<(T, bool), Fail> {
        let mut asked = std::pin::pin!(asked);
        let mut interrupted = false;
        loop {
            tokio::select! {
                answer = &mut asked => return Ok((answer?, interrupted)),
                () = self.recv() => {
                    if interrupted {
                        return Err(Fail::of(
                            INTERRUPTED,
                            "interrupted",
                            "no longer waited for an answer; the daemon may do what it was asked for",
                        ));
                    }
                    interrupted = true;
                }
            }
        }
    }
}

/// From now on Ctrl-C and SIGTERM do not end the program, but come here.
pub fn interrupts() -> Result<Interrupts, Fail> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |e: std::io::Error| Fail::new(format!("watching for Ctrl-C: {e}"));
    Ok(Interrupts {
        int: signal(SignalKind::interrupt()).map_err(failed)?,
        term: signal(SignalKind::terminate()).map_err(failed)?,
    })
}

/// A time as in the file: `90s`, `2m`, `500ms`; a bare number is seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "a number and a unit: 500ms, 90s, 2m, 1h".to_owned())?;
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("the unit is one of ms, s, m, h".into()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(|| "that is too long".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ctrl_c_while_an_answer_is_waited_for_is_kept_and_a_second_one_ends_the_wait() {
        use nix::sys::signal::{Signal, raise};
        // The other sees that one has come.
        let (mut interrupt, mut other) = (interrupts().unwrap(), interrupts().unwrap());
        let asked = async {
            raise(Signal::SIGINT).unwrap();
            other.recv().await;
            Ok(7)
        };
        let (answer, interrupted) = interrupt.during(asked).await.unwrap();
        assert_eq!(answer, 7);
        // Or it comes at once to who waits next.
        if !interrupted {
            tokio::time::timeout(Duration::from_secs(30), interrupt.recv()).await.unwrap();
        }
        let asked = async {
            for _ in 0..2 {
                raise(Signal::SIGINT).unwrap();
                other.recv().await;
            }
            std::future::pending::<Result<(), Fail>>().await
        };
        let ended = tokio::time::timeout(Duration::from_secs(30), interrupt.during(asked)).await;
        assert_eq!(ended.unwrap().unwrap_err().code, INTERRUPTED);
    }

    #[test]
    fn durations_are_those_of_the_file() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(
            duration("two").is_err() && duration("3d").is_err() && duration("99999999999999999h").is_err()
        );
    }
}
