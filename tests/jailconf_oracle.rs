//! jail(8) as the oracle: what FreeBSD 13.2's own `jail -f FILE -e SEPARATOR` says about random files, and what we say.
//!
//! `tests/jailconf/oracle.json` holds some of its answers, so that every run compares. To ask it about thousands more, on a
//! machine that can run FreeBSD: `tests/freebsd/jailconf.sh CASES [SEED]`.
//!
//! A block named by a number: 13.2 gives the jail a `jid` and no `name`, 15 and we a name as well. So that name is left out of
//! ours, and where `$name` is used 13.2 must say that it is not defined.
//!
//! Known differences (docs/reference/jail-conf.md says more), each of them left out of the files that are made: 13.2 has
//! neither nested blocks nor `.include`, and takes a carriage return for text. Bytes that are not UTF-8 are refused by us. A byte beyond ASCII outside quotes ends the
//! file for jail(8), whatever follows it; we refuse the file. Where a list takes the place of a variable jail(8) ends with a
//! fault (it reads through a pointer it has just made null; the code is the same in 15); we put the list in. A value with a newline cannot be told from the end of a line of
//! what `-e` prints.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use warren::config::jailconf::{self, Jail, OnDisk, Param};

const SEPARATOR: char = '\u{1}';

/// What is compared: each jail's parameters, or that there are errors.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The file is refused as a whole.
    Refused,
    /// Jails in order, each with its parameters sorted; `None` for one that is refused.
    Jails(Vec<Option<BTreeSet<String>>>),
}

/// What 13.2 says of a jail without a name that uses it.
const NAMELESS: &str = "variable \"name\" not found";

/// What we say, as far as it can be compared with what 13.2 said (`errors`); `None` if a value holds what parts them.
fn ours(file: &Path, errors: &str) -> Option<(Vec<String>, Answer)> {
    let Ok(conf) = jailconf::load(file, &mut OnDisk) else { return Some((Vec::new(), Answer::Refused)) };
    let mut values = conf.jails.iter().flat_map(|jail| &jail.params).flat_map(|param| &param.values);
    if values.any(|value| value.text.contains(['\n', SEPARATOR])) {
        return None;
    }
    let names: Vec<String> = conf.jails.iter().map(|jail| jail.name.clone()).collect();
    let jails = conf.jails.iter().map(|jail| {
        let nameless = is_number(jail) && complaints(errors, &jail.name).any(|why| why.ends_with(NAMELESS));
        let wrong = conf.verify(Some(&jail.name)).is_err_and(|report| {
            // What jail(8) only says when it starts a jail is not among what `-e` says.
            report.problems().iter().any(|p| !matches!(p.code, "jail.conf::value" | "jail.conf::depend"))
        });
        (!wrong && !nameless).then(|| printed(jail))
    });
    let jails = Answer::Jails(jails.collect());
    Some((names, jails))
}

/// Whether the block's name is a number and no line gave the jail another one.
fn is_number(jail: &Jail) -> bool {
    let number = jail.params.first().is_some_and(|param| *param.name == *"jid");
    number && jail.text("name") == Some(&jail.name)
}

/// What is said of a jail by name.
fn complaints<'a>(errors: &'a str, jail: &'a str) -> impl Iterator<Item = &'a str> {
    errors.lines().filter_map(move |line| line.strip_prefix("jail: ")?.strip_prefix(jail)?.strip_prefix(": "))
}

/// A jail's parameters as `-e` prints them: without `jid`.
fn printed(jail: &Jail) -> BTreeSet<String> {
    let number = is_number(jail);
    let shown = |param: &&Param| !(*param.name == *"jid" || number && *param.name == *"name");
    let line = |param: &Param| {
        let values: Vec<String> = param.values.iter().map(|value| quoted(&value.text)).collect();
        match values.is_empty() {
            true => param.name.to_string(),
            false => format!("{}={}", param.name, values.join(",")),
        }
    };
    jail.params.iter().filter(shown).map(line).collect()
}

/// A value as `-e` quotes it.
fn quoted(text: &str) -> String {
    let quote = match text {
        "" => "\"",
        _ if text.contains('\'') => "\"",
        _ if text.contains('"') => "'",
        _ if text.contains([' ', '\t']) => "\"",
        _ => "",
    };
    let mut shown = quote.to_owned();
    for char in text.chars() {
        if char == '\\' || quote.starts_with(char) {
            shown.push('\\');
        }
        shown.push(char);
    }
    shown + quote
}

/// Its answer, from what it printed and its status. It prints a line for each jail, refused ones too, in the order of the text;
/// which one is refused it says by the name of the block.
fn theirs(out: &str, errors: &str, status: i64, names: &[String]) -> Answer {
    if status != 0 {
        return Answer::Refused;
    }
    let jails = out.lines().enumerate().map(|(number, line)| {
        let refused = names.get(number).is_some_and(|name| complaints(errors, name).next().is_some());
        (!refused)
            .then(|| line.split(SEPARATOR).filter(|param| !param.is_empty()).map(str::to_owned).collect())
    });
    Answer::Jails(jails.collect())
}

fn compare(name: &str, text: &str, out: &str, errors: &str, status: i64) -> Option<String> {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let file = dir.path().join(name);
    std::fs::write(&file, text).expect("a file can be written");
    // A fault of its own is no answer.
    if status > 128 {
        return None;
    }
    let (names, ours) = ours(&file, errors)?;
    let theirs = theirs(out, errors, status, &names);
    (ours != theirs).then(|| format!("{name}\n{text}\njail(8): {theirs:?}\n{errors}\nwe: {ours:?}\n"))
}

#[test]
fn what_jail_8_said_is_what_we_say() {
    let text = include_str!("jailconf/oracle.json");
    let cases: Vec<Value> = serde_json::from_str(text).expect("it is JSON");
    assert!(cases.len() >= 200, "the transcript is not whole");
    let said = |case: &Value, key: &str| case[key].as_str().unwrap_or_default().to_owned();
    let differ = cases.iter().filter_map(|case| {
        let status = case["status"].as_i64().unwrap_or(-1);
        compare("case.conf", &said(case, "text"), &said(case, "out"), &said(case, "err"), status)
    });
    let differ: Vec<String> = differ.collect();
    assert!(differ.is_empty(), "{} differ\n{}", differ.len(), differ.join("\n"));
}

/// Two halves of `tests/freebsd/jailconf.sh`: `WARREN_ORACLE_WRITE=DIR` makes the files, `WARREN_ORACLE_READ=FILE` reads what jail(8)
/// said of them and compares.
#[test]
#[ignore = "run by tests/freebsd/jailconf.sh, with FreeBSD between its two halves"]
fn thousands() {
    let number = |name: &str, or: u64| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(or);
    if let Some(dir) = std::env::var_os("WARREN_ORACLE_WRITE").map(PathBuf::from) {
        let (cases, seed) = (number("WARREN_ORACLE_CASES", 2000), number("WARREN_ORACLE_SEED", 1));
        for case in 0..cases {
            let text = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (case + 1)).file();
            std::fs::write(dir.join(format!("{case:05}.conf")), text).expect("a file can be written");
        }
        return;
    }
    let read = std::env::var_os("WARREN_ORACLE_READ").expect("one of the two halves is asked for");
    let files = std::env::var_os("WARREN_ORACLE_FILES").map(PathBuf::from).expect("the files are named");
    let said = String::from_utf8_lossy(&std::fs::read(read).expect("it can be read")).into_owned();
    let mut kept = Vec::new();
    let mut differ = Vec::new();
    let (mut cases, mut refused, mut faults) = (0, 0, 0);
    for case in said.split('\u{2}').skip(1) {
        let (name, rest) = case.split_once('\n').expect("a name");
        let (out, rest) = rest.split_once('\u{3}').expect("a status");
        let (status, errors) = rest.split_once('\n').expect("a line");
        let status: i64 = status.parse().expect("a number");
        let text = std::fs::read_to_string(files.join(name)).expect("the file is there");
        cases += 1;
        refused += usize::from(status == 1);
        faults += usize::from(status > 128);
        differ.extend(compare(name, &text, out, errors, status));
        if kept.len() < 300 && cases % 7 == 0 {
            kept.push(json!({ "text": text, "out": out, "err": errors, "status": status }));
        }
    }
    println!(
        "{cases} files, jail(8) refused {refused} as a whole and ended with a fault at {faults}; {} differ",
        differ.len()
    );
    if let Some(keep) = std::env::var_os("WARREN_ORACLE_KEEP") {
        let lines: Vec<String> = kept.iter().map(Value::to_string).collect();
        std::fs::write(keep, format!("[\n{}\n]\n", lines.join(",\n"))).expect("it can be written");
    }
    assert!(
        cases > 0 && differ.is_empty(),
        "{}",
        differ.iter().take(20).cloned().collect::<Vec<_>>().join("\n")
    );
}

/// Files from a seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // splitmix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len() as u64) as usize]
    }

    fn file(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..1 + self.below(6) {
            text += &match self.below(5) {
                0 | 1 => self.param(),
                _ => self.block(),
            };
            text += self.one(&["\n", " ", "", "# note\n", "// note\n", "/* a\n * b */"]);
        }
        // Half of the files have something broken about them.
        for _ in 0..self.below(2) * self.below(3) {
            let at = self.below(text.len() as u64 + 1) as usize;
            if text.is_char_boundary(at) {
                text.insert_str(
                    at,
                    self.one(&[
                        "\"", "'", ";", "{", "}", "$", "\\", "/*", "*/", "//", "#", ",", "=", "+=", "${", "*",
                    ]),
                );
            }
        }
        text
    }

    fn block(&mut self) -> String {
        let name = self.one(&[
            "a", "b", "a.b", "a.b.c", "*", "\"a.*\"", "'*.b'", "c", "web1", "0", "'a b'", "\"*.*\"", "5",
            "017", "'+7'", "-3", "\"8 \"", "9.a",
        ]);
        let mut text = format!("{name}{}{{", self.one(&[" ", "", "\n"]));
        for _ in 0..self.below(5) {
            text += &self.param();
        }
        text + "}"
    }

    fn param(&mut self) -> String {
        let name = match self.below(4) {
            0 => self.one(&["$x", "$y", "$z", "${x}", "${long one}", "$list", "$no_x", "$_x"]),
            1 => self.one(&[
                "persist",
                "nopersist",
                "allow.mount",
                "allow.nomount",
                "vnet",
                "mount.nodevfs",
                "exec.clean",
            ]),
            _ => self.one(&[
                "path",
                "host.hostname",
                "ip4.addr",
                "exec.start",
                "mod.x",
                "mod.y",
                "depend",
                "name",
                "jid",
                "'exec.stop'",
            ]),
        };
        let space = self.one(&["", " "]);
        match self.below(6) {
            0 => format!("{name}{space};"),
            1 => format!("{name} {};", self.value()),
            2 => format!("{name}{space}+={space}{};", self.values()),
            _ => format!("{name}{space}={space}{};", self.values()),
        }
    }

    fn values(&mut self) -> String {
        let mut text = self.value();
        while self.below(5) == 0 {
            text += self.one(&[",", ", "]);
            text += &self.value();
        }
        text
    }

    fn value(&mut self) -> String {
        let mut text = String::new();
        for _ in 0..1 + self.below(3) {
            text += &match self.below(3) {
                0 => format!("\"{}\"", self.inside(true)),
                1 => format!("'{}'", self.inside(false)),
                _ => self.bare(),
            };
        }
        text
    }

    fn bare(&mut self) -> String {
        self.one(&[
            "a",
            "/",
            "/jails/x",
            "10.0.0.1",
            "lo1|10.0.0.1",
            "/24",
            "$x",
            "$y",
            "${z}",
            "${long one}",
            "$name",
            "true",
            "0",
            "$",
            "+",
            "\\$",
            "\\x41",
            "\\101",
            "\\;",
            "\\ ",
            "[x]",
            "%%N%%",
            "a:b",
            "*",
            "$path",
            "${x\\}y}",
            "$no_x",
        ])
        .to_owned()
    }

    fn inside(&mut self, double: bool) -> String {
        let mut text = String::new();
        for _ in 0..self.below(4) {
            text += self.one(&[
                "a",
                " ",
                "b c",
                "$x",
                "${y}",
                "$z",
                "${long one}",
                "$name",
                "\\t",
                "\\x4",
                "\\0",
                "\\'",
                "\\\"",
                "\\\\",
                "\\\n",
                "#",
                "//",
                "/*",
                "{",
                "}",
                ";",
                "=",
                "$",
                "$1",
                "\u{e4}",
                "\\q",
                "\\x",
                "${host.hostname}",
                "\t",
            ]);
            text += self.one(&["", if double { "'" } else { "\"" }, "", ""]);
        }
        text
    }
}
