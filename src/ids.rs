//! Names that identify things for good: the id of an instance or a network, and what is derived from it.
//!
//! An id is drawn before any effect and never reused, so that every object Warren makes in the kernel can be found
//! again by a name that was written down first. Interface names hold 15 bytes and netgraph names 31 (facts, section 5
//! of "ten findings"), so an id is short: 8 characters of base32, 40 bits, checked against the store when drawn.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Lower-case base32 without the look-alikes `i`, `l`, `o` and `u` (Crockford's alphabet).
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// The id of one instance or network: 8 characters, for ever unique in one store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id([u8; 8]);

impl Id {
    /// The id spelled by the low 40 bits of `random`. Starts with a letter, because some programs take a host name
    /// of digits for an address.
    #[must_use]
    pub fn from_random(random: u64) -> Self {
        let mut id = [0; 8];
        for (place, byte) in id.iter_mut().enumerate() {
            *byte = ALPHABET[(random >> (5 * place)) as usize & 31];
        }
        if id[0].is_ascii_digit() {
            id[0] = ALPHABET[10 + usize::from(id[0] - b'0')];
        }
        Self(id)
    }

    /// The eight characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The jail's name: `warren-<id>`.
    #[must_use]
    pub fn jail(&self) -> String {
        format!("warren-{self}")
    }

    /// The name of the instance's netgraph node and interface: `w<id>`, 9 bytes.
    #[must_use]
    pub fn node(&self) -> String {
        format!("w{self}")
    }

    /// The name of a network's bridge node: `b<id>`.
    #[must_use]
    pub fn bridge(&self) -> String {
        format!("b{self}")
    }

    /// The name of a network's gateway: node and interface `g<id>`.
    #[must_use]
    pub fn gateway(&self) -> String {
        format!("g{self}")
    }

    /// The id a jail's name speaks of, if the jail is one of ours.
    #[must_use]
    pub fn of_jail(name: &str) -> Option<Self> {
        name.strip_prefix("warren-")?.parse().ok()
    }

    /// The id that the name of a node or an interface speaks of, if it is one of ours: `w<id>` or `f<id>`, with a letter more
    /// for further links, `g<id>` or `b<id>`.
    #[must_use]
    pub fn of_object(name: &str) -> Option<Self> {
        let rest = name.strip_prefix(['w', 'f', 'g', 'b'])?;
        let further = name.starts_with(['w', 'f'])
            && rest.len() == 9
            && rest.ends_with(|letter: char| letter.is_ascii_lowercase());
        if further { rest.get(..8)?.parse().ok() } else { rest.parse().ok() }
    }

    /// The id that the name of an interface of the host speaks of, if it is one of ours: an instance's or a gateway's.
    #[must_use]
    pub fn of_interface(name: &str) -> Option<Self> {
        Self::of_object(name).filter(|_| name.starts_with(['w', 'g']))
    }

    /// The id a node or interface name speaks of, if it is one of ours.
    #[must_use]
    pub fn of_node(name: &str) -> Option<Self> {
        name.strip_prefix('w')?.parse().ok()
    }
}

/// What was given is not an instance id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an instance id: 8 characters of 0-9 and a-z without i, l, o, u")]
pub struct BadId(String);

impl FromStr for Id {
    type Err = BadId;

    fn from_str(text: &str) -> Result<Self, BadId> {
        let bytes: [u8; 8] = text.as_bytes().try_into().map_err(|_| BadId(text.into()))?;
        if bytes.iter().all(|b| ALPHABET.contains(b)) { Ok(Self(bytes)) } else { Err(BadId(text.into())) }
    }
}

impl TryFrom<String> for Id {
    type Error = BadId;

    fn try_from(text: String) -> Result<Self, BadId> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.as_str().to_owned()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_again_in_what_is_named_after_it() {
        for random in [0, 1, u64::MAX, 0x1234_5678_9abc] {
            let id = Id::from_random(random);
            assert!(id.as_str().starts_with(|c: char| c.is_ascii_alphabetic()));
            assert_eq!(id.as_str().parse(), Ok(id));
            assert_eq!(Id::of_jail(&id.jail()), Some(id));
            assert_eq!(Id::of_node(&id.node()), Some(id));
            for name in [id.node(), id.bridge(), id.gateway(), format!("{}a", id.node()), format!("f{id}b")] {
                assert_eq!(Id::of_object(&name), Some(id));
                assert!(name.len() <= 15);
            }
        }
    }

    #[test]
    fn the_names_of_others_are_not_ours() {
        for name in ["svcj-nginx", "warren-", "warren-web", "www", "wlan0", "w1234567", "w123456789"] {
            assert_eq!(Id::of_jail(name), None, "{name}");
            assert_eq!(Id::of_node(name), None, "{name}");
            assert_eq!(Id::of_object(name), None, "{name}");
        }
    }
}
