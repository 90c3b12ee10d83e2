//! Ethernet addresses as a plain value, written `02:00:5e:10:00:01` in text and in the store.
//!
//! A newtype of six octets and not a crate: what is needed is an ordering, a text form and two bits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An Ethernet (EUI-48) address, in transmission order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mac(pub [u8; 6]);

/// A text that is not an Ethernet address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an Ethernet address; write six hexadecimal octets, as in 02:00:5e:10:00:01")]
pub struct MacParseError(pub String);

impl Mac {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Mac = Mac([0xff; 6]);
    /// `00:00:00:00:00:00`: the unknown target of an ARP request.
    pub const ZERO: Mac = Mac([0; 6]);

    /// Group bit clear and not all zero: what a station may use as its own address.
    pub fn is_unicast(self) -> bool {
        let [first, ..] = self.0;
        first & 1 == 0 && self != Self::ZERO
    }

    /// The U/L bit is set (IEEE 802c): no manufacturer owns it.
    pub fn is_local(self) -> bool {
        let [first, ..] = self.0;
        first & 2 != 0
    }

    /// A locally administered unicast address from 46 of the 48 low bits of `bits`.
    pub fn local_from(bits: u64) -> Mac {
        let [_, _, a, b, c, d, e, f] = bits.to_be_bytes();
        Mac([(a & 0xfc) | 0x02, b, c, d, e, f])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = MacParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || MacParseError(text.to_owned());
        let mut octets = [0u8; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or_else(bad)?;
            // from_str_radix would take a sign.
            if part.is_empty() || part.len() > 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() { Err(bad()) } else { Ok(Mac(octets)) }
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

impl TryFrom<String> for Mac {
    type Error = MacParseError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<[u8; 6]> for Mac {
    fn from(octets: [u8; 6]) -> Self {
        Mac(octets)
    }
}

impl From<Mac> for [u8; 6] {
    fn from(mac: Mac) -> Self {
        mac.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_goes_both_ways() {
        let mac: Mac = "02:00:5e:10:0:fF".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:5e:10:00:ff");
        for bad in [
            "",
            "02:00:5e:10:00",
            "02:00:5e:10:00:01:02",
            "+2:00:5e:10:00:01",
            "002:0:0:0:0:0",
            "g0:0:0:0:0:0",
        ] {
            assert_eq!(bad.parse::<Mac>(), Err(MacParseError(bad.to_owned())));
        }
    }

    #[test]
    fn derived_addresses_are_local_unicast() {
        for bits in [0, 1, u64::MAX, 0x0100_0000_0000_0000, 0xffff_0300_0000_0000] {
            let mac = Mac::local_from(bits);
            assert!(mac.is_local() && mac.is_unicast(), "{mac}");
        }
    }
}
