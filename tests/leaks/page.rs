//! docs/what-happens-when.md is what these tests saw: it is written by them, and compared with what they see.
//!
//! `WARREN_BLESS=1 cargo test --test leaks page` writes it anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::scenario::SCENARIOS;
use crate::{asks, crashes, drift, errnos, faults, hooks, shortage};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/what-happens-when.md");

const HEAD: &str = "\
# What happens when

<!-- Written by tests/leaks/page.rs from what the tests saw: change those, then `WARREN_BLESS=1 cargo test --test leaks page`. -->

What Warren does when something fails, and what is seen of it. Every row below was tried: the operation failed with each error
its kind can give on FreeBSD, before and after it took effect, and after each the machine, the store and the reports were compared.
After every one of these failures a fabric that is wanted is ready again by itself, or after one `warren repair` where the table
says `failed`; and after `warren down` nothing was left.

The words: `instance` and `network` are the two things that come up and go down. A step is one operation; `un.x` takes `x` back.
Events are seen by `warren events`; what is left by `warren ps`, `inspect` and `doctor`.
";

fn phases(text: &mut String) {
    let results = faults::results();
    for (number, scenario) in SCENARIOS.iter().enumerate() {
        let operations = results.operations[scenario.name];
        let _ = write!(
            text,
            "\n## When an operation fails: {}\n\n{operations} operations when nothing fails.\n\n\
             | whose | way | step | operation | tried | Warren | the user sees |\n|---|---|---|---|---|---|---|\n",
            scenario.name
        );
        // Steps that nothing is said of, and repairs, come last.
        let rows: BTreeMap<_, _> = results.rows.iter().filter(|((of, ..), _)| *of == number).collect();
        for ((_, whose, way, step, kind), row) in rows {
            let join = |set: &std::collections::BTreeSet<String>| {
                set.iter().map(String::as_str).collect::<Vec<_>>().join("; or ")
            };
            let _ = writeln!(
                text,
                "| {whose} | {way} | {step} | {kind} | {} | {} | {} |",
                row.trials,
                join(&row.does),
                join(&row.sees)
            );
        }
    }
    let _ = write!(
        text,
        "\n## When two fail\n\nEach operation of each phase, and then each one after it until all is quiet: {} pairs. The same \
         holds, after at most two repairs.\n",
        results.pairs
    );
}

fn deaths(text: &mut String) {
    let counts = crashes::results();
    let _ = write!(
        text,
        "\n## When the daemon dies, or the power goes\n\nIn the phases above there are {} commits to the store and {} effects on the \
         machine. The daemon died in and after each commit, before and after each effect: {} times. The power was cut after each \
         commit, with every part of the store lost that was not synced: {} times.\n\n\
         | what | Warren | the user sees |\n|---|---|---|\n\
         | the daemon dies | the next one goes on where it was: a step whose end is not known is asked of the keeper if it is a \
         command, else taken back and done again; no hook runs twice, no step fails, nothing is made or stopped that would not \
         have been | {}; a request that was not answered is made again |\n\
         | the power goes | every unit is taken down as far as it is on the disk, its clean-up hooks run, what is wanted starts \
         anew | {}; of {} instances that were ready none is there any more, others are under new ids |\n\
         | a commit is torn | it is as if it had not been: nothing that follows it had happened | nothing |\n",
        counts.commits,
        counts.effects,
        counts.deaths,
        counts.cuts,
        events(&counts.after_deaths),
        events(&counts.after_cuts),
        counts.after_cuts.replaced,
    );
}

fn events(seen: &crashes::Seen) -> String {
    seen.events.iter().map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(", ")
}

fn commands(text: &mut String) {
    let (hooks, asks) = (hooks::results(), asks::results());
    let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
    let _ = write!(
        text,
        "\n## When a hook does not end as it should, or nobody can be asked\n\nThe phases above run {} hooks. Each exited with 1, was \
         killed, or hung until its time was over, with a process left behind and without: {} times. The daemon died while it ran, and \
         it ended then in each way: {} times. Its start was given up while it ran, and the killing of it failed or not: {} times. \
         What is asked of the host and is no operation (looks, the keeper's jobs, the stream of lost jails, taking for one's own) \
         failed once at each call: {asks} times. A hook's failure is that of its step; who was not answered asks again, and the \
         user sees nothing of it.\n",
        hooks.hooks,
        of(&hooks.ends),
        of(&hooks.deaths),
        of(&hooks.cancelled),
    );
}

fn starved(text: &mut String) {
    let _ = write!(
        text,
        "\n## When nothing can be done for a while\n\nFrom each operation of the phases above on, every operation and every question \
         failed for want of descriptors, for {} seconds: {} times. What ran and was not to be changed was ready all the time: a health \
         check that could not be asked says nothing of the instance. The rest went as after any other failure.\n",
        shortage::TIMES.map(|seconds| seconds.to_string()).join(", "),
        shortage::results(),
    );
}

fn by_hand(text: &mut String) {
    text.push_str(
        "\n## When somebody changes the machine\n\nWarren looks at start and every 30 seconds; that a jail is gone FreeBSD tells it within a second. What it cannot put right is told once \
         (`drift`) and stands in `warren ps`, `inspect` and `doctor` until it is right. What bears a name of Warren's and is in no \
         store (`strays`) is left alone, and so is everything else.\n\n| what | Warren | the user sees |\n|---|---|---|\n",
    );
    for case in drift::CASES {
        let mut told: Vec<String> = drift::run(case).iter().map(|line| without_ids(line)).collect();
        told.sort();
        told.dedup();
        let does = if case.replaced { "replaces the instance" } else { "puts it back; the instance runs on" };
        let event = if case.replaced { "drift" } else { "mended" };
        let _ = writeln!(text, "| {} | {does} | `{event}`: {} |", case.what, told.join("; "));
    }
}

/// Ids are drawn anew in each run of a changed test: they say nothing here.
fn without_ids(line: &str) -> String {
    let words = line.split_inclusive(['/', '-', ' ', ':', ',']);
    words.map(replace_id).collect()
}

fn replace_id(word: &str) -> String {
    let core = word.trim_end_matches(['/', '-', ' ', ':', ',']);
    let rest = &word[core.len()..];
    let id =
        |text: &str| text.parse::<warren::ids::Id>().is_ok() && text.contains(|c: char| c.is_ascii_digit());
    if id(core) {
        format!("<id>{rest}")
    } else if core.len() == 9 && core.is_char_boundary(1) && id(&core[1..]) {
        format!("{}<id>{rest}", &core[..1])
    } else {
        word.to_owned()
    }
}

fn errors(text: &mut String) {
    text.push_str("\n## The errors that were tried\n\n| operation | errors | sources |\n|---|---|---|\n");
    for row in errnos::TABLE {
        let names: Vec<&str> = row.errnos.iter().map(|(_, name)| *name).collect();
        let _ = writeln!(text, "| {} | {} | {} |", row.kind, names.join(" "), row.source);
    }
}

#[test]
fn the_page_says_what_happens() {
    let mut text = HEAD.to_owned();
    phases(&mut text);
    deaths(&mut text);
    commands(&mut text);
    starved(&mut text);
    by_hand(&mut text);
    errors(&mut text);
    if std::env::var_os("WARREN_BLESS").is_some() {
        std::fs::write(PATH, &text).unwrap();
    }
    let there = std::fs::read_to_string(PATH).unwrap_or_default();
    let changed = there.lines().zip(text.lines()).find(|(old, new)| old != new);
    assert!(
        there == text,
        "docs/what-happens-when.md is not what happens (WARREN_BLESS=1 writes it anew): {changed:#?}"
    );
}
