//! What daemon and keeper say to each other: JSON, one [`Ask`] or [`Say`] to a [frame](super::wire).
//!
//! A keeper outlives daemons and so may be older than the one that talks to it. Hence: every connection opens with
//! [`Request::Hello`]; fields a reader does not know are skipped; a field added later must have a default that means what
//! an older keeper does; a request a keeper does not know is answered with [`Reply::Failed`]; [`PROTOCOL`] grows with each
//! addition, and a client that needs one looks at the number the keeper gave. `tests/keeper/v<n>.jsonl` keeps what version n
//! says, byte for byte, and `tests/keeper_protocol.rs` plays each of those keepers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::host::{Exit, Failure, JobState, Process, Status};

/// The version spoken here. 1: everything in this file but what says otherwise. 2: [`Reply::Hello`] names the keeper's Warren.
pub const PROTOCOL: u32 = 2;

/// A request with its number, which the answers repeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Chosen by the client.
    pub seq: u64,
    /// What is wanted.
    #[serde(flatten)]
    pub request: Request,
}

/// An answer or an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Say {
    /// The request it answers; an event repeats the number of the [`Request::Subscribe`].
    pub seq: u64,
    /// What is said.
    #[serde(flatten)]
    pub reply: Reply,
}

/// What a client may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Opens a connection. Answered by [`Reply::Hello`].
    Hello {
        /// The newest version the client speaks.
        protocol: u32,
    },
    /// Forks the process of a job, up to its gate. Answered by [`Reply::Ready`]. Descriptors: standard input, output and
    /// error if `stdio`, then those of the place. A job that is not let go is killed when the connection closes.
    Start {
        /// What is run.
        task: Task,
        /// Where.
        place: WirePlace,
        /// Whether its end is told to subscribers.
        #[serde(default)]
        spawned: bool,
        /// Whether its standard descriptors come with the request instead of leading to the log.
        #[serde(default)]
        stdio: bool,
        /// Whether descriptor 0 becomes its controlling terminal.
        #[serde(default)]
        terminal: bool,
    },
    /// Lets a job exec that this connection has started. Answered by [`Reply::Running`] after the exec.
    Go {
        /// Its id.
        job: String,
    },
    /// Asks for the end of a job. Answered by [`Reply::Ended`] when it comes.
    Wait {
        /// Its id.
        job: String,
    },
    /// Asks what a job is doing. Answered by [`Reply::State`].
    State {
        /// Its id.
        job: String,
    },
    /// Kills what is left of a job's process group. Answered by [`Reply::Done`] once it is gone, also if there never was one.
    Kill {
        /// Its id.
        job: String,
    },
    /// Drops the status of a job that ended. Answered by [`Reply::Done`], also if there is none.
    Forget {
        /// Its id.
        job: String,
    },
    /// Asks for all jobs that are not forgotten. Answered by [`Reply::Jobs`].
    Jobs,
    /// Asks for the ends of spawned jobs, those not forgotten first. Answered by [`Reply::Done`], then [`Reply::Exit`]s.
    Subscribe,
    /// Leaves a socket, the frame's only descriptor. Answered by [`Reply::Done`].
    PutSocket {
        /// Its name, not yet taken.
        name: String,
    },
    /// Asks for a socket. Answered by [`Reply::Done`] with a descriptor.
    GetSocket {
        /// Its name.
        name: String,
    },
    /// Closes a socket. Answered by [`Reply::Done`], also if there is none.
    DropSocket {
        /// Its name.
        name: String,
    },
    /// Asks for the sockets' names. Answered by [`Reply::Sockets`].
    Sockets,
    /// Ends the keeper. Answered by [`Reply::Done`]; refused while jobs run, unless forced: then they are killed first.
    Shutdown {
        /// Whether jobs are killed.
        force: bool,
    },
}

/// What a keeper may say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// Who is there.
    Hello {
        /// The newest version the keeper speaks.
        protocol: u32,
        /// Its process.
        pid: i32,
        /// The version of its Warren; none: a keeper of protocol 1.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warren: Option<String>,
    },
    /// The process of a job exists and waits at its gate.
    Ready {
        /// It.
        process: Process,
    },
    /// The program runs.
    Running,
    /// It ended.
    Ended {
        /// How.
        status: Status,
    },
    /// What a job is doing.
    State {
        /// This.
        state: JobState,
    },
    /// What was asked for is so.
    Done,
    /// All jobs.
    Jobs {
        /// In no order.
        jobs: Vec<JobInfo>,
    },
    /// All sockets.
    Sockets {
        /// Their names.
        names: Vec<String>,
    },
    /// The end of a spawned job.
    Exit {
        /// Which and how.
        exit: Exit,
    },
    /// It could not be done.
    Failed {
        /// Why.
        failure: Failure,
    },
}

/// A job in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobInfo {
    /// Its id.
    pub job: String,
    /// What it is doing.
    pub state: JobState,
    /// Whether its end is told to subscribers.
    #[serde(default)]
    pub spawned: bool,
    /// Whether processes of its group live, be it after its end.
    #[serde(default)]
    pub alive: bool,
}

/// A [`Job`](crate::host::Job) with everything decided.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Whether it counts as ended, with success, as soon as it runs.
    #[serde(default)]
    pub background: bool,
    /// Added to the environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Whether the environment is emptied first.
    #[serde(default)]
    pub clean_env: bool,
    /// Who runs it.
    #[serde(default)]
    pub user: Option<String>,
    /// Whether the user is looked up on the host although it runs elsewhere.
    #[serde(default)]
    pub host_user: bool,
    /// The routing table.
    #[serde(default)]
    pub fib: Option<u32>,
    /// After which its process group is killed, in milliseconds.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// The name of its log.
    pub log: String,
    /// A second file for what it prints.
    #[serde(default)]
    pub consolelog: Option<PathBuf>,
    /// A directory that strangers write below. A keeper that does not know of it looks at the last link alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console_below: Option<PathBuf>,
}

/// A [`Place`](super::Place); its descriptors travel beside it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "place", rename_all = "kebab-case")]
pub enum WirePlace {
    /// Where the keeper is.
    Host {
        /// The working directory.
        cwd: Option<PathBuf>,
    },
    /// In namespaces, whose descriptors are the frame's.
    Namespaces,
    /// In a jail.
    Jail {
        /// Its number.
        jid: i32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_newer_side_are_skipped() {
        let ask: Ask =
            serde_json::from_str(r#"{"seq":3,"request":"wait","job":"a","patience":9,"x":{}}"#).unwrap();
        assert_eq!(ask, Ask { seq: 3, request: Request::Wait { job: "a".into() } });
        let say: Say =
            serde_json::from_str(r#"{"seq":3,"reply":"hello","protocol":7,"pid":1,"mood":"fine"}"#).unwrap();
        assert_eq!(say.reply, Reply::Hello { protocol: 7, pid: 1, warren: None });
    }

    #[test]
    fn a_task_needs_no_more_than_version_1_gave_it() {
        let text = r#"{"seq":1,"request":"start","task":{"id":"a","argv":["true"],"log":"l"},"place":{"place":"host"}}"#;
        let ask: Ask = serde_json::from_str(text).unwrap();
        let Request::Start { task, place, spawned, .. } = ask.request else { panic!("{ask:?}") };
        assert_eq!(
            task,
            Task { id: "a".into(), argv: vec!["true".into()], log: "l".into(), ..Task::default() }
        );
        assert_eq!(place, WirePlace::Host { cwd: None });
        assert!(!spawned);
    }

    #[test]
    fn what_is_said_is_understood() {
        for reply in [
            Reply::Ended { status: Status::Exited(3) },
            Reply::State { state: JobState::Ended(Status::TimedOut) },
            Reply::State { state: JobState::Running(Process { pid: 1, started: 2 }) },
            Reply::Exit { exit: Exit { job: "a".into(), status: Status::Signaled(9) } },
        ] {
            let say = Say { seq: 1, reply };
            let text = serde_json::to_string(&say).unwrap();
            assert_eq!(serde_json::from_str::<Say>(&text).unwrap(), say, "{text}");
        }
    }
}
