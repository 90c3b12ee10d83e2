//! A failure costs a message and nothing else: every failure of every operation, every death of the daemon, random schedules,
//! and what is changed behind Warren's back. All of it on the sim, deterministic; docs/what-happens-when.md is made from it.

#[path = "../support/mod.rs"]
mod support;

mod asks;
mod check;
mod crashes;
mod drift;
mod errnos;
mod faults;
mod guests;
mod hooks;
mod others;
mod page;
mod refusals;
mod scenario;
mod schedules;
mod shortage;
mod stands;
mod torn;
