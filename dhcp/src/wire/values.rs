//! Option values with a structure of their own: address lists, routes, domain names.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::reader::Reader;

/// A text that is not a domain name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a domain name: labels of 1 to 63 octets between single dots, 253 octets in all")]
pub struct NameError(pub String);

/// A list of addresses.
pub fn encode_ips(ips: &[Ipv4Addr]) -> Vec<u8> {
    ips.iter().flat_map(Ipv4Addr::octets).collect()
}

/// Classless static routes (RFC 3442): prefix length, its significant octets, router.
pub fn encode_routes(routes: &[(Ipv4Net, Ipv4Addr)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (to, via) in routes {
        out.push(to.prefix_len());
        out.extend(to.network().octets().iter().take(usize::from(to.prefix_len().div_ceil(8))));
        out.extend(via.octets());
    }
    out
}

fn labels(name: &str) -> Result<Vec<&str>, NameError> {
    let bare = name.strip_suffix('.').unwrap_or(name);
    let labels: Vec<_> = bare.split('.').collect();
    let good = |l: &&str| (1..=63).contains(&l.len()) && !l.chars().any(|c| c.is_control() || c == ' ');
    if bare.len() <= 253 && labels.iter().all(good) { Ok(labels) } else { Err(NameError(name.to_owned())) }
}

/// One domain name, uncompressed (RFC 1035 §3.1).
///
/// # Errors
/// [`NameError`].
pub fn encode_name(name: &str) -> Result<Vec<u8>, NameError> {
    let mut out = Vec::new();
    for label in labels(name)? {
        out.push(label.len() as u8);
        out.extend(label.bytes());
    }
    out.push(0);
    Ok(out)
}

/// A search list (RFC 3397) with compression among its names; offsets count from the start of the option.
///
/// # Errors
/// [`NameError`] for the first bad name.
pub fn encode_domains<S: AsRef<str>>(names: &[S]) -> Result<Vec<u8>, NameError> {
    let mut out: Vec<u8> = Vec::new();
    let mut seen: BTreeMap<String, u16> = BTreeMap::new();
    'names: for name in names {
        let labels = labels(name.as_ref())?;
        for (n, label) in labels.iter().enumerate() {
            let suffix = labels.iter().skip(n).map(|l| l.to_ascii_lowercase()).collect::<Vec<_>>().join(".");
            if let Some(at) = seen.get(&suffix) {
                out.extend((0xc000 | at).to_be_bytes());
                continue 'names;
            }
            // A pointer has 14 bits.
            if out.len() < 0x4000 {
                seen.insert(suffix, out.len() as u16);
            }
            out.push(label.len() as u8);
            out.extend(label.bytes());
        }
        out.push(0);
    }
    Ok(out)
}

/// A client's FQDN option (RFC 4702), as far as the server looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedFqdn {
    /// The client asks the server to publish the address (bit S).
    pub server_updates: bool,
    /// The name is in DNS encoding, not ASCII (bit E).
    pub dns_encoding: bool,
    /// The client asks that nobody publish it (bit N).
    pub no_update: bool,
    /// The name, made printable, for the record only.
    pub name: String,
}

/// Reads a client's FQDN option; `None` if it is shorter than its fixed part or its name is malformed.
pub fn parse_fqdn(value: &[u8]) -> Option<ParsedFqdn> {
    let mut r = Reader::new(value);
    let (flags, _, _) = (r.u8()?, r.u8()?, r.u8()?);
    let dns_encoding = flags & 4 != 0;
    let mut text = Vec::new();
    if dns_encoding {
        // Partial names have no terminating zero (RFC 4702 §3.3.1); pointers are not allowed here.
        while !r.is_empty() {
            match r.u8()? {
                0 => break,
                len @ 1..=63 => {
                    if !text.is_empty() {
                        text.push(b'.');
                    }
                    text.extend_from_slice(r.take(usize::from(len))?);
                }
                _ => return None,
            }
        }
    } else {
        text.extend_from_slice(r.rest());
    }
    Some(ParsedFqdn {
        server_updates: flags & 1 != 0,
        dns_encoding,
        no_update: flags & 8 != 0,
        name: printable(&text),
    })
}

/// At most 253 octets of a client's text, whatever is not a letter, digit, hyphen, dot or underscore replaced: it
/// goes to logs and to the store.
pub(crate) fn printable(text: &[u8]) -> String {
    let plain = |b: &u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => *b as char,
        _ => '?',
    };
    text.iter().take_while(|b| **b != 0).take(253).map(plain).collect()
}
