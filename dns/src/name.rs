//! Domain names as the tables hold them: lower-case wire format, checked once when they enter.
//!
//! Everything after this module may assume that a [`Name`] is valid (RFC 1035 section 2.3.4: labels of at most
//! 63 octets, 253 characters in all), so the answering code never has to deal with a name that cannot be sent.

use std::borrow::Borrow;
use std::fmt;

/// Longest label, in octets (RFC 1035 section 2.3.4).
pub const MAX_LABEL: usize = 63;
/// Longest name in its written form without the final dot: 255 octets on the wire, less two for the first
/// length octet and the root.
pub const MAX_NAME: usize = 253;

/// Why a name cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// A label of no characters, as in `a..b` or an empty name.
    #[error("{name:?} has an empty label; write labels of 1 to 63 characters separated by single dots")]
    EmptyLabel {
        /// The whole name.
        name: String,
    },
    /// A label longer than 63 octets.
    #[error(
        "the label {label:?} of {name} is {len} characters long, {over} more than the {MAX_LABEL} that DNS allows"
    )]
    LabelTooLong {
        /// The whole name.
        name: String,
        /// The label at fault.
        label: String,
        /// Its length in octets.
        len: usize,
        /// How many octets too many.
        over: usize,
    },
    /// A name longer than 253 characters.
    #[error("the name {name} is {len} characters long, {over} more than the {MAX_NAME} that DNS allows")]
    NameTooLong {
        /// The whole name.
        name: String,
        /// Its length in characters, without a final dot.
        len: usize,
        /// How many characters too many.
        over: usize,
    },
    /// A character that host names do not have (RFC 1123 section 2.1).
    #[error("the label {label:?} of {name} contains {character:?}; use letters, digits and hyphens")]
    BadCharacter {
        /// The whole name.
        name: String,
        /// The label at fault.
        label: String,
        /// The first character at fault.
        character: char,
    },
    /// A hyphen at an end of a label (RFC 952).
    #[error("the label {label:?} of {name} begins or ends with a hyphen")]
    HyphenAtEdge {
        /// The whole name.
        name: String,
        /// The label at fault.
        label: String,
    },
    /// A port name that is not a service name of RFC 6335 section 5.1.
    #[error(
        "the port name {port:?} is no service name: it needs 1 to 15 letters, digits and single inner hyphens, \
         and at least one letter (RFC 6335)"
    )]
    BadPortName {
        /// The name as given.
        port: String,
    },
}

/// A domain name: wire format, lower case, with the root label.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Reads a host name (letters, digits, hyphens; a final dot is allowed) such as `shop.internal`.
    ///
    /// # Errors
    /// Any [`NameError`] but `BadPortName`.
    pub fn host(text: &str) -> Result<Name, NameError> {
        let trimmed = text.strip_suffix('.').unwrap_or(text);
        let labels: Vec<&str> = trimmed.split('.').collect();
        for label in &labels {
            check_label(trimmed, label)?;
        }
        Name::join(&labels, &Name::root())
    }

    /// The root, `.`.
    pub fn root() -> Name {
        Name(Box::new([0]))
    }

    /// The host label `label` below this name.
    ///
    /// # Errors
    /// When the label is no host label, or the whole would be too long.
    pub fn child(&self, label: &str) -> Result<Name, NameError> {
        let name = self.describe_child(label);
        if label.contains('.') {
            return Err(NameError::BadCharacter { name, label: label.to_owned(), character: '.' });
        }
        check_label(&name, label)?;
        self.join_below(&[label])
    }

    /// Labels below this name without the host name rules: for `_http`, `_tcp`, and labels already checked.
    pub(crate) fn join_below(&self, labels: &[&str]) -> Result<Name, NameError> {
        Name::join(labels, self)
    }

    fn join(labels: &[&str], below: &Name) -> Result<Name, NameError> {
        let described = || {
            let mut text = labels.join(".");
            if below.0.len() > 1 {
                text = format!("{text}.{below}");
            }
            text
        };
        let mut wire = Vec::with_capacity(MAX_NAME + 2);
        for label in labels {
            let len = label.len();
            if len == 0 {
                return Err(NameError::EmptyLabel { name: described() });
            }
            if len > MAX_LABEL {
                let over = len - MAX_LABEL;
                return Err(NameError::LabelTooLong {
                    name: described(),
                    label: (*label).to_owned(),
                    len,
                    over,
                });
            }
            wire.push(len as u8);
            wire.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
        }
        wire.extend_from_slice(&below.0);
        let len = wire.len().saturating_sub(2);
        if len > MAX_NAME {
            return Err(NameError::NameTooLong { name: described(), len, over: len - MAX_NAME });
        }
        Ok(Name(wire.into_boxed_slice()))
    }

    fn describe_child(&self, label: &str) -> String {
        if self.0.len() > 1 { format!("{label}.{self}") } else { label.to_owned() }
    }

    /// The name on the wire, uncompressed, lower case, with the root label.
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// A name out of the tables, where it was put by one of the above.
    pub(crate) fn from_table(wire: &[u8]) -> Name {
        Name(wire.into())
    }

    /// Whether this name is `other` or below it.
    pub fn is_within(&self, other: &Name) -> bool {
        let mut rest = Some(self.wire());
        while let Some(wire) = rest {
            if wire == other.wire() {
                return true;
            }
            rest = parent(wire);
        }
        false
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_wire(&self.0, f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

fn write_wire(wire: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut rest = wire;
    let mut first = true;
    while let Some((&len, tail)) = rest.split_first() {
        let Some((label, after)) = tail.split_at_checked(len as usize) else { break };
        if len == 0 {
            break;
        }
        if !first {
            f.write_str(".")?;
        }
        first = false;
        write!(f, "{}", label.escape_ascii())?;
        rest = after;
    }
    if first { f.write_str(".") } else { Ok(()) }
}

/// The wire name without its first label; nothing for the root or for bytes that are no name.
pub(crate) fn parent(wire: &[u8]) -> Option<&[u8]> {
    match wire.first() {
        None | Some(0) => None,
        Some(&len) => wire.get(1 + len as usize..).filter(|rest| !rest.is_empty()),
    }
}

fn check_label(name: &str, label: &str) -> Result<(), NameError> {
    if label.is_empty() {
        return Err(NameError::EmptyLabel { name: name.to_owned() });
    }
    if let Some(character) = label.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
        return Err(NameError::BadCharacter { name: name.to_owned(), label: label.to_owned(), character });
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(NameError::HyphenAtEdge { name: name.to_owned(), label: label.to_owned() });
    }
    Ok(())
}

/// Checks a port name: it becomes the `_http` of `_http._tcp`.
pub(crate) fn check_port_name(port: &str) -> Result<(), NameError> {
    let good = (1..=15).contains(&port.len())
        && port.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && port.bytes().any(|b| b.is_ascii_alphabetic())
        && !port.starts_with('-')
        && !port.ends_with('-')
        && !port.contains("--");
    if good { Ok(()) } else { Err(NameError::BadPortName { port: port.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_form_is_lower_case_with_root() {
        let name = Name::host("Web.Shop.internal.").unwrap();
        assert_eq!(name.wire(), b"\x03web\x04shop\x08internal\x00");
        assert_eq!(name.to_string(), "web.shop.internal");
        assert_eq!(parent(name.wire()), Some(&b"\x04shop\x08internal\x00"[..]));
        assert_eq!(parent(Name::root().wire()), None);
        assert_eq!(Name::root().to_string(), ".");
    }

    #[test]
    fn errors_say_which_label_and_by_how_much() {
        let label = "a".repeat(70);
        let error = Name::host(&format!("{label}.internal")).unwrap_err();
        assert!(matches!(&error, NameError::LabelTooLong { len: 70, over: 7, .. }), "{error:?}");
        assert!(error.to_string().contains("7 more than the 63"), "{error}");

        let long = vec!["b".repeat(63); 4].join(".");
        let error = Name::host(&long).unwrap_err();
        assert!(matches!(error, NameError::NameTooLong { len: 255, over: 2, .. }), "{error:?}");
        assert!(Name::host(&long[..253]).is_ok());
    }

    #[test]
    fn host_rules() {
        assert!(matches!(Name::host("a..b"), Err(NameError::EmptyLabel { .. })));
        assert!(matches!(Name::host(""), Err(NameError::EmptyLabel { .. })));
        assert!(matches!(Name::host("a_b"), Err(NameError::BadCharacter { character: '_', .. })));
        assert!(matches!(Name::host("bücher"), Err(NameError::BadCharacter { character: 'ü', .. })));
        assert!(matches!(Name::host("-a"), Err(NameError::HyphenAtEdge { .. })));
        assert!(matches!(
            Name::host("a").unwrap().child("b.c"),
            Err(NameError::BadCharacter { character: '.', .. })
        ));
        for bad in ["", "-x", "x-", "a--b", "80", "a_b", "sixteen-letters-"] {
            assert!(check_port_name(bad).is_err(), "{bad}");
        }
        check_port_name("http").unwrap();
    }

    #[test]
    fn within() {
        let zone = Name::host("shop.internal").unwrap();
        assert!(zone.is_within(&zone));
        assert!(Name::host("a.b.shop.internal").unwrap().is_within(&zone));
        assert!(!Name::host("shop.internal.org").unwrap().is_within(&zone));
        assert!(!Name::host("xshop.internal").unwrap().is_within(&zone));
    }
}
