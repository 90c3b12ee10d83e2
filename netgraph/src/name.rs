//! Names of nodes, hooks and types: at most 31 bytes, kept without an allocation.
//!
//! Two doors, because two kinds of people come through them. `new` is for our own side and refuses what the kernel would
//! misread (netgraph/ng_base.c: `ng_name_node`, `ng_path_parse`). `from_wire` is for bytes that came from the kernel or
//! from whoever says to be it: it takes anything that fits, since a foreign node may bear any name.

use std::fmt;
use thiserror::Error;

/// Bytes a name may have; the 32nd is the NUL (NG_NODESIZ, NG_HOOKSIZ and NG_TYPESIZ are all 32).
pub const NAME_MAX: usize = 31;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing there.
    #[error("a {0} name cannot be empty")]
    Empty(&'static str),
    /// More than [`NAME_MAX`] bytes.
    #[error("{0} name {1:?} is longer than 31 bytes")]
    TooLong(&'static str, String),
    /// Something the path grammar or the wire would misread.
    #[error("{0} name {1:?} holds {2:?}, which netgraph's addresses cannot carry")]
    Forbidden(&'static str, String, char),
    /// `[hex]` is how a node is addressed by its id, so it cannot be a name.
    #[error("node name {0:?} reads as a node id")]
    LooksLikeId(String),
}

/// Up to 31 bytes without a NUL; the rest is zero, so that equality and hash are those of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Raw([u8; NAME_MAX + 1]);

impl Raw {
    fn from_bytes(bytes: &[u8]) -> Raw {
        let mut raw = [0; NAME_MAX + 1];
        for (to, from) in raw.iter_mut().zip(bytes.iter().take_while(|b| **b != 0).take(NAME_MAX)) {
            *to = *from;
        }
        Raw(raw)
    }

    fn bytes(&self) -> &[u8] {
        let len = self.0.iter().position(|b| *b == 0).unwrap_or(NAME_MAX);
        self.0.get(..len).unwrap_or_default()
    }
}

/// What `new` asks of every name: something, that fits, of printable ASCII, without the path grammar's `.` and `:`.
fn check(what: &'static str, text: &str) -> Result<Raw, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty(what));
    }
    if text.len() > NAME_MAX {
        return Err(NameError::TooLong(what, text.to_owned()));
    }
    match text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '.' | ':')) {
        Some(c) => Err(NameError::Forbidden(what, text.to_owned(), c)),
        None => Ok(Raw::from_bytes(text.as_bytes())),
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident $what:literal),*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Raw);

        impl $name {
            /// Bytes as they came over the wire: up to the first NUL, at most 31, whatever they are.
            pub fn from_wire(bytes: &[u8]) -> Self {
                Self(Raw::from_bytes(bytes))
            }

            /// The bytes, without the NUL.
            pub fn as_bytes(&self) -> &[u8] {
                self.0.bytes()
            }

            /// All 32 bytes, NUL-padded, as they go into a message.
            pub fn padded(&self) -> &[u8; NAME_MAX + 1] {
                &self.0.0
            }

            /// Whether nothing is there: how the wire says "no name".
            pub fn is_empty(&self) -> bool {
                self.as_bytes().is_empty()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&String::from_utf8_lossy(self.as_bytes()))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.as_bytes() == other.as_bytes()
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.as_bytes() == other.as_bytes()
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
    )* };
}

names! {
    /// The name of a node, unique in its graph.
    NodeName "node",
    /// The name of a hook, unique in its node.
    HookName "hook",
    /// The name of a node type: `bridge`, `eiface`.
    TypeName "type"
}

impl NodeName {
    /// A name the kernel will take (ng_name_node): ≤ 31 bytes, no `.` or `:`, not `[hex]`.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let raw = check("node", text)?;
        if decode_id(text.as_bytes()).is_some() {
            return Err(NameError::LooksLikeId(text.to_owned()));
        }
        Ok(Self(raw))
    }
}

impl HookName {
    /// A name that can be addressed in a path. (The kernel takes more than it can address.)
    pub fn new(text: &str) -> Result<Self, NameError> {
        check("hook", text).map(Self)
    }
}

impl TypeName {
    /// A type's name. It also names the module `ng_<type>.ko`, so `/` is refused.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.contains('/') {
            return Err(NameError::Forbidden("type", text.to_owned(), '/'));
        }
        check("type", text).map(Self)
    }
}

/// `[hex]` as a node id, by the rules of ng_base.c:ng_decodeidname: a first digit that is one, strtoul base 16 (so `0x` may
/// lead), nothing left over, not zero. The value is cut to 32 bits, as the kernel's cast does.
pub fn decode_id(name: &[u8]) -> Option<u32> {
    let inner = name.strip_prefix(b"[")?.strip_suffix(b"]")?;
    if !inner.first()?.is_ascii_hexdigit() {
        return None;
    }
    let digits = match inner {
        [b'0', b'x' | b'X', rest @ ..] if rest.first().is_some_and(u8::is_ascii_hexdigit) => rest,
        all => all,
    };
    let value = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    match value {
        0 | u64::MAX => None,
        id => Some(id as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_would_misread_is_refused() {
        assert_eq!(NodeName::new(""), Err(NameError::Empty("node")));
        assert!(NodeName::new(&"w".repeat(31)).is_ok());
        assert!(matches!(NodeName::new(&"w".repeat(32)), Err(NameError::TooLong(..))));
        assert!(matches!(NodeName::new("em0.1"), Err(NameError::Forbidden(_, _, '.'))));
        assert!(matches!(NodeName::new("a:"), Err(NameError::Forbidden(_, _, ':'))));
        assert!(matches!(NodeName::new("a\0b"), Err(NameError::Forbidden(_, _, '\0'))));
        assert!(matches!(NodeName::new("[1f]"), Err(NameError::LooksLikeId(_))));
        assert!(NodeName::new("[xyz]").is_ok());
        assert!(HookName::new("link7").is_ok() && HookName::new("a.b").is_err());
        assert!(TypeName::new("bridge").is_ok() && TypeName::new("../x").is_err());
    }

    #[test]
    fn ids_are_hexadecimal_in_brackets() {
        assert_eq!(decode_id(b"[1f]"), Some(0x1f));
        assert_eq!(decode_id(b"[f03034de]"), Some(0xf030_34de));
        assert_eq!(decode_id(b"[0x10]"), Some(16));
        for bad in ["[]", "[0]", "[g]", "1f", "[1f", "[-1]", "[+1]", "[1 ]", "[ffffffffffffffff]", "[]]"] {
            assert_eq!(decode_id(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn foreign_bytes_fit_or_are_cut() {
        assert_eq!(NodeName::from_wire(b"a\0b").as_bytes(), b"a");
        assert_eq!(NodeName::from_wire(&[0xff; 64]).as_bytes().len(), 31);
        assert!(NodeName::from_wire(b"").is_empty());
        assert_eq!(HookName::from_wire(&[b'h'; 32]).padded()[31], 0);
    }
}
