//! Whether a fabric is as it was declared, and what it was before when it is not yet: what Ctrl-C at `up` goes back to.

use serde_json::json;

use super::commands::Answer;
use super::{Engine, Refusal};
use crate::store::{Record, ServiceState, Stage};

impl Engine {
    /// Whether a service has all the replicas that are wanted, and no others. Those on their way down count as well. One whose work
    /// is done wants no more.
    #[must_use]
    pub fn is_complete(&self, service: &ServiceState, wanted: u32) -> bool {
        (service.is_done() || service.current.len() == wanted as usize)
            && service.current.is_subset(&service.ready)
            && service.outdated.is_empty()
            && !self.is_going(service)
    }

    /// Whether a replica of a service is on its way down.
    #[must_use]
    pub fn is_going(&self, service: &ServiceState) -> bool {
        (service.instances.iter().filter_map(|id| self.state.instances.get(id)))
            .any(|i| i.revision.is_some() && i.unit.stage == Stage::Stopping)
    }

    /// Whether everything that is declared of a fabric is ready, and nothing else there.
    #[must_use]
    pub fn is_settled(&self, name: &str) -> bool {
        let Some(fabric) = self.state.fabrics.get(name).filter(|fabric| !fabric.dropped) else {
            return false;
        };
        let wanted = |service: &String| fabric.spec.services.get(service).map_or(0, |s| s.replicas);
        let networks: Vec<_> =
            fabric.networks.values().filter_map(|id| self.state.networks.get(id)).collect();
        fabric.services.iter().all(|(name, service)| self.is_complete(service, wanted(name)))
            && networks.len() == fabric.spec.networks.len()
            && networks.iter().all(|network| network.unit.stage == Stage::Ready)
    }

    /// Notes that a fabric is about to be declared anew: what it is now is what an interrupted `up` goes back to, unless that was
    /// itself not true yet.
    pub(super) fn begin_declaration(&mut self, name: &str) {
        let now = self.state.fabrics.get(name).map(|fabric| Box::new(fabric.spec.clone()));
        self.under_way.entry(name.to_owned()).or_insert(now);
    }

    /// A declaration that came true is what later ones replace.
    pub(super) fn end_declaration(&mut self, name: &str) {
        if self.under_way.contains_key(name)
            && (!self.state.fabrics.contains_key(name) || self.is_settled(name))
        {
            self.under_way.remove(name);
        }
    }

    /// Undoes what a declaration has not brought about yet: Ctrl-C at `up`. What was declared before is declared again; of a new
    /// fabric what is ready stays, and nothing of it if nothing is.
    pub(super) fn cancel(&mut self, fabric: &str) -> Answer {
        self.known(fabric)?;
        if self.is_settled(fabric) {
            return Ok(json!({ "fabric": fabric, "back": false }));
        }
        match self.under_way.get(fabric).cloned() {
            Some(Some(before)) => {
                self.check_declaration(&before)?;
                self.under_way.remove(fabric);
                self.put(*before);
                Ok(json!({ "fabric": fabric, "back": true }))
            }
            Some(None) => {
                self.under_way.remove(fabric);
                self.keep_what_is_ready(fabric)
            }
            None => Err(Refusal::conflict(format!(
                "the daemon that was told of it is gone, and this one does not know what `{fabric}` was before: bring up the \
                 file it was made of, or take it down"
            ))),
        }
    }

    fn keep_what_is_ready(&mut self, fabric: &str) -> Answer {
        let state = &self.state.fabrics[fabric];
        if state.services.values().all(|s| s.ready.is_empty()) {
            return self.drop_fabric(fabric);
        }
        let ready = |name| state.services.get(name).map_or(0, |s| s.current.intersection(&s.ready).count());
        let ready: Vec<(String, usize)> =
            state.spec.services.keys().map(|name| (name.clone(), ready(name))).collect();
        for (service, count) in ready {
            let replicas = u32::try_from(count).unwrap_or(u32::MAX);
            self.emit(Record::Scale { fabric: fabric.to_owned(), service, replicas });
        }
        self.unsettled.insert(fabric.to_owned());
        Ok(json!({ "fabric": fabric, "back": false }))
    }
}
