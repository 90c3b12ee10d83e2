//! The opaque name of whoever holds an address.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::error::IpamError;

/// Longest owner name, in bytes.
pub const MAX_OWNER_LEN: usize = 64;

/// The name of an address holder: 1 to [`MAX_OWNER_LEN`] bytes without control characters, compared byte by byte.
///
/// What it means is the caller's affair. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Owner(Arc<str>);

impl Owner {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`IpamError::BadOwner`] when empty, too long, or holding a control character.
    pub fn new(name: &str) -> Result<Self, IpamError> {
        if name.is_empty() || name.len() > MAX_OWNER_LEN || name.chars().any(char::is_control) {
            return Err(IpamError::BadOwner { name: name.chars().take(MAX_OWNER_LEN).collect() });
        }
        Ok(Owner(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl FromStr for Owner {
    type Err = IpamError;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Owner::new(name)
    }
}

impl From<Owner> for String {
    fn from(owner: Owner) -> String {
        owner.0.as_ref().to_owned()
    }
}

impl TryFrom<String> for Owner {
    type Error = IpamError;
    fn try_from(name: String) -> Result<Self, Self::Error> {
        Owner::new(&name)
    }
}
