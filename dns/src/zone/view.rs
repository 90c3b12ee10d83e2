//! Zones as a list of records in text, for people (`warren dns ls`) and tests.

use hickory_proto::rr::Record;
use hickory_proto::serialize::binary::BinDecodable;

use super::{Name, Snapshot};
use crate::wire::TO_QUESTION;

/// One record in presentation format.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordView {
    /// The owner, without a final dot.
    pub name: String,
    /// `A`, `SRV`, …
    pub rtype: String,
    /// Seconds.
    pub ttl: u32,
    /// The data, as in a zone file.
    pub data: String,
}

impl Snapshot {
    /// Every record of one zone (its reverse zones included) or of all, sorted by name. O(n): for listings.
    pub fn records(&self, origin: Option<&str>) -> Vec<RecordView> {
        let wanted = match origin.map(|o| self.zone_of(o)) {
            None => None,
            Some(Ok((id, _))) => Some(id),
            Some(Err(_)) => return Vec::new(),
        };
        let mut all = Vec::new();
        for (wire, node) in self.tree.iter().filter(|(_, n)| wanted.is_none_or(|id| n.zone == id)) {
            let name = &Name::from_table(wire);
            if node.is_apex()
                && let Some((before, serial, after)) = self.soa(node.zone)
            {
                all.extend(view(name, &[before, &serial.to_be_bytes(), after].concat()));
            }
            all.extend(node.sets().flat_map(|(_, set)| set.records()).filter_map(|wire| view(name, wire)));
        }
        all.sort();
        all
    }
}

fn view(name: &Name, wire: &[u8]) -> Option<RecordView> {
    let rest = wire.get(TO_QUESTION.len()..)?;
    let record = Record::from_bytes(&[name.wire(), rest].concat()).ok()?;
    Some(RecordView {
        name: name.to_string(),
        rtype: record.record_type().to_string(),
        ttl: record.ttl,
        data: record.data.to_string(),
    })
}
