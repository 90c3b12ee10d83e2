//! Jails, their processes, and the jobs the keeper knows.

use std::collections::BTreeSet;

use super::{EEXIST, ENOENT, Machine, SimJail, SimJob, error};
use crate::host::{Failure, Jail, Job, JobState, Process, Status};

impl Machine {
    pub(super) fn jail(&self, name: &str) -> Result<&SimJail, Failure> {
        self.jails.get(name).ok_or_else(|| error(ENOENT, format!("jail {name} is not there")))
    }

    pub(super) fn create_jail(&mut self, jail: &Jail) -> Result<i32, Failure> {
        if self.jails.contains_key(&jail.name) {
            return Err(error(EEXIST, format!("jail {} is there already", jail.name)));
        }
        self.last_jid += 1;
        let made = SimJail {
            jid: self.last_jid,
            path: jail.path.clone(),
            vnet: jail.vnet,
            addresses: jail.addresses.clone(),
            params: jail.params.clone(),
            processes: BTreeSet::new(),
            immortal: false,
        };
        self.jails.insert(jail.name.clone(), made);
        Ok(self.last_jid)
    }

    pub(super) fn remove_jail(&mut self, name: &str) {
        let Some(jail) = self.jails.get(name) else { return };
        assert!(jail.processes.is_empty(), "kernel trap: jail {name} removed with processes that run");
        let inside = self.eifaces.iter().find(|(_, e)| e.jail.as_deref() == Some(name));
        assert!(inside.is_none(), "kernel panic: jail {name} removed with {inside:?} inside (PR 238326)");
        self.jails.remove(name);
        self.datasets.retain(|(_, jail)| jail != name);
    }

    /// The keeper died: no job is known any more.
    pub fn forget_jobs(&mut self) {
        self.jobs.clear();
    }

    /// Somebody removes a jail by hand: its processes die, its interfaces come home, what was mounted stays. The jobs it ended.
    pub fn lose_jail(&mut self, name: &str) -> Vec<(String, Status)> {
        let ended = self.kill_all(name);
        for eiface in self.eifaces.values_mut().filter(|e| e.jail.as_deref() == Some(name)) {
            eiface.leave();
        }
        if let Some(jail) = self.jails.get_mut(name) {
            jail.processes.clear();
        }
        self.remove_jail(name);
        ended
    }

    /// SIGTERM: the jobs end; what a job left behind is deaf to it.
    pub(super) fn ask_all(&mut self, name: &str) -> Vec<(String, Status)> {
        let Some(jail) = self.jails.get_mut(name).filter(|j| !j.immortal) else { return Vec::new() };
        let mut ended = Vec::new();
        for (id, job) in &mut self.jobs {
            if job.jail.as_deref() == Some(name) && job.ended.is_none() {
                jail.processes.remove(&job.process.pid);
                job.ended = Some(Status::Signaled(15));
                ended.push((id.clone(), Status::Signaled(15)));
            }
        }
        ended
    }

    /// SIGKILL.
    pub(super) fn kill_all(&mut self, name: &str) -> Vec<(String, Status)> {
        let ended = self.ask_all(name);
        if let Some(jail) = self.jails.get_mut(name).filter(|j| !j.immortal) {
            jail.processes.clear();
        }
        ended
    }

    pub(in crate::host::sim) fn start_job(&mut self, job: &Job) -> Result<Process, Failure> {
        if self.jobs.contains_key(&job.id) {
            return Err(error(EEXIST, format!("a job {} is known already", job.id)));
        }
        self.last_pid += 1;
        let pid = self.last_pid;
        if let Some(name) = &job.jail {
            let jail =
                self.jails.get_mut(name).ok_or_else(|| error(ENOENT, format!("jail {name} is not there")))?;
            jail.processes.insert(pid);
        }
        let process = crate::host::sim::process(pid, self.boot);
        self.jobs.insert(job.id.clone(), SimJob { process, jail: job.jail.clone(), ended: None });
        Ok(process)
    }

    pub(in crate::host::sim) fn leave_process(&mut self, job: &Job) {
        self.last_pid += 1;
        if let Some(jail) = job.jail.as_ref().and_then(|name| self.jails.get_mut(name)) {
            jail.processes.insert(self.last_pid);
        }
    }

    pub(in crate::host::sim) fn end_job(&mut self, id: &str, status: Status) {
        let Some(job) = self.jobs.get_mut(id) else { return };
        job.ended = Some(status);
        let pid = job.process.pid;
        if let Some(jail) = job.jail.as_ref().and_then(|name| self.jails.get_mut(name)) {
            jail.processes.remove(&pid);
        }
    }

    pub(in crate::host::sim) fn job(&self, id: &str) -> JobState {
        match self.jobs.get(id) {
            None => JobState::Unknown,
            Some(SimJob { ended: Some(status), .. }) => JobState::Ended(*status),
            Some(job) => JobState::Running(job.process),
        }
    }

    pub(in crate::host::sim) fn forget_job(&mut self, id: &str) {
        if self.jobs.get(id).is_some_and(|j| j.ended.is_some()) {
            self.jobs.remove(id);
        }
    }

    pub(in crate::host::sim) fn ended_jobs(&self) -> Vec<String> {
        self.jobs.iter().filter(|(_, job)| job.ended.is_some()).map(|(id, _)| id.clone()).collect()
    }
}
