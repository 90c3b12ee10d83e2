//! Any bytes as the body of a request: what the fuzz target and its replay drive.

use std::path::PathBuf;

use super::exec::{ExecRequest, Frame};
use super::view::{Repair, Run, Scale};
use crate::config::spec::FabricSpec;
use crate::lifecycle::engine::{Command, Engine, Event, Settings};
use crate::store::State;

fn engine() -> Engine {
    let (roots, program) = (PathBuf::from("/roots"), PathBuf::from("/program"));
    Engine::new(State::default(), Settings { roots, program, jobs: 4 })
}

/// Entry point for fuzzing. The first byte says whose body it is. What passes the checks is handed to an engine, which may refuse
/// it and may not fall.
///
/// # Panics
/// When a spec that was accepted does not survive the way into the store and back.
pub fn fuzz(data: &[u8]) {
    let [kind, body @ ..] = data else { return };
    match kind % 5 {
        0 => drop(serde_json::from_slice::<Scale>(body)),
        1 => drop(serde_json::from_slice::<Repair>(body)),
        2 => drop(serde_json::from_slice::<ExecRequest>(body)),
        3 => {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let Ok(runtime) = runtime else { return };
            let mut rest = body;
            runtime.block_on(async { while Frame::read(&mut rest).await.is_some() {} });
        }
        _ => declare(body),
    }
    if let Ok(run) = serde_json::from_slice::<Run>(body) {
        let _ = serde_json::to_vec(&run);
    }
}

fn declare(body: &[u8]) {
    let Ok(spec) = serde_json::from_slice::<FabricSpec>(body) else { return };
    if let Err(report) = crate::config::verify(&spec) {
        assert!(!report.problems().is_empty(), "a refusal without a reason");
        return;
    }
    let text = serde_json::to_vec(&spec).unwrap_or_default();
    assert_eq!(
        serde_json::from_slice::<FabricSpec>(&text).ok().as_ref(),
        Some(&spec),
        "what is kept reads back"
    );
    let mut engine = engine();
    let _ = engine.recover("boot", 1_000_000, 7);
    let _ = engine.handle(Event::Ask(1, Command::Declare(Box::new(spec))), 1_000_001, 11);
    for second in 1..4 {
        let _ = engine.handle(Event::Tick, 1_000_000 + second * 1000, second);
    }
}
