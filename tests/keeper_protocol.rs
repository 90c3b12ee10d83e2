//! A keeper outlives daemons, so one of an older version must be understood: what each version says is kept in `tests/keeper/`, byte
//! for byte, and played here.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use serde_json::Value;
use warren::config::spec::CommandLine;
use warren::host::{Job, JobState, NoWitness, Process, Status};
use warren::keeper::protocol::{Ask, PROTOCOL, Say};
use warren::keeper::wire::{Decoder, receive, send};
use warren::keeper::{Client, Place};

/// What was said in a version: to the keeper, and by it.
struct Golden {
    asked: Vec<String>,
    said: Vec<String>,
}

fn golden(version: u32) -> Golden {
    let path = format!("{}/tests/keeper/v{version}.jsonl", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let of = |mark: &str| text.lines().filter_map(|l| l.strip_prefix(mark)).map(str::to_owned).collect();
    Golden { asked: of("> "), said: of("< ") }
}

fn tags(lines: &[String], key: &str) -> BTreeSet<String> {
    let tag = |line: &String| serde_json::from_str::<Value>(line).unwrap()[key].as_str().unwrap().to_owned();
    lines.iter().map(tag).collect()
}

#[test]
fn every_version_is_read_as_it_was_written_and_written_as_it_was_read() {
    for version in 1..=PROTOCOL {
        let Golden { asked, said } = golden(version);
        for line in &asked {
            // To an older keeper the very bytes must go that it knows.
            let ask: Ask =
                serde_json::from_str(line).unwrap_or_else(|e| panic!("version {version}: {e}: {line}"));
            assert_eq!(&serde_json::to_string(&ask).unwrap(), line, "version {version}");
        }
        for line in &said {
            let say: Say =
                serde_json::from_str(line).unwrap_or_else(|e| panic!("version {version}: {e}: {line}"));
            assert_eq!(&serde_json::to_string(&say).unwrap(), line, "version {version}");
        }
    }
    // Nothing that version 1 can say is missing from what is kept of it.
    let Golden { asked, said } = golden(1);
    let requests = [
        "hello",
        "start",
        "go",
        "wait",
        "state",
        "kill",
        "forget",
        "jobs",
        "subscribe",
        "put-socket",
        "get-socket",
        "drop-socket",
        "sockets",
        "shutdown",
    ];
    assert_eq!(tags(&asked, "request"), requests.map(str::to_owned).into());
    let replies =
        ["hello", "ready", "running", "ended", "state", "done", "jobs", "sockets", "exit", "failed"];
    assert_eq!(tags(&said, "reply"), replies.map(str::to_owned).into());
}

/// A keeper of a version that says what is kept of it and nothing else: for each request the first answer there is.
fn play(dir: &Path, version: u32) -> Arc<Mutex<Vec<String>>> {
    let listener = UnixListener::bind(dir.join("keeper.sock")).unwrap();
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let golden = golden(version);
    let known = tags(&golden.asked, "request");
    let answers: BTreeMap<String, String> = golden
        .said
        .iter()
        .rev()
        .map(|line| {
            (serde_json::from_str::<Value>(line).unwrap()["reply"].as_str().unwrap().to_owned(), line.clone())
        })
        .collect();
    let notes = Arc::clone(&heard);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, answers, known, notes) =
                (stream.unwrap(), answers.clone(), known.clone(), Arc::clone(&notes));
            std::thread::spawn(move || {
                let (mut decoder, mut buffer) = (Decoder::default(), vec![0; 4096]);
                while receive(stream.as_fd(), &mut buffer, &mut decoder).is_ok_and(|n| n > 0) {
                    while let Some(frame) = decoder.next_frame().unwrap() {
                        let text = String::from_utf8(frame.body).unwrap();
                        let ask: Value = serde_json::from_str(&text).unwrap();
                        let request = ask["request"].as_str().unwrap().to_owned();
                        assert!(known.contains(&request), "a keeper of version {version} knows no {request}");
                        notes.lock().unwrap().push(text);
                        let reply = match request.as_str() {
                            "start" => "ready",
                            "go" => "running",
                            "wait" => "ended",
                            "hello" | "state" | "jobs" | "sockets" => &request,
                            "shutdown" => "failed",
                            _ => "done",
                        };
                        let mut say: Value = serde_json::from_str(&answers_of(&answers, reply)).unwrap();
                        say["seq"] = ask["seq"].clone();
                        send(stream.as_fd(), say.to_string().as_bytes(), vec![]).unwrap();
                    }
                }
            });
        }
    });
    heard
}

fn answers_of(answers: &BTreeMap<String, String>, reply: &str) -> String {
    answers.get(reply).unwrap_or_else(|| panic!("nothing is kept of {reply}")).clone()
}

#[test]
fn a_keeper_of_each_version_is_worked_with() {
    for version in 1..=PROTOCOL {
        let dir = tempfile::tempdir().unwrap();
        let heard = play(dir.path(), version);
        let client = Client::connect(dir.path()).unwrap();
        assert_eq!((client.protocol(), client.warren().is_some()), (version, version >= 2));
        let job = Job {
            id: "k3f9q2ab.main".into(),
            jail: None,
            command: CommandLine::Argv(vec!["true".into()]),
            env: BTreeMap::new(),
            clean_env: false,
            user: None,
            system_jail_user: false,
            fib: None,
            timeout: None,
            log: "k3f9q2ab".into(),
            consolelog: None,
            console_below: None,
        };
        let process = Process { pid: 812, started: 99_871 };
        assert_eq!(client.spawn(&job, Place::Host { cwd: None }, &NoWitness).unwrap(), process);
        assert_eq!(client.run(&job, Place::Host { cwd: None }, &NoWitness).unwrap(), Status::Exited(0));
        assert_eq!(client.state("k3f9q2ab.main").unwrap(), JobState::Running(process));
        assert_eq!(client.jobs().unwrap()[0].job, "k3f9q2ab.main");
        client.kill("k3f9q2ab.main").unwrap();
        client.forget("k3f9q2ab.main").unwrap();
        assert_eq!(client.sockets().unwrap(), ["dns.10.77.0.1.udp"]);
        assert!(client.shutdown(false).unwrap_err().message.contains("jobs run"));
        assert!(heard.lock().unwrap().len() > 10);
    }
}
