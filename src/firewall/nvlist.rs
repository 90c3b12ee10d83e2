//! Packs lists of names and values as libnv does (nv(9), sys/contrib/libnv of FreeBSD): what newer ioctls of pf take. Pure.
//!
//! A list is a header and its pairs; a list within a list is a pair whose bytes are that list, closed by a pair of its own. All
//! numbers are in the machine's order.

/// Bytes of `struct nvlist_header`: magic, version, flags, descriptors, size.
const HEADER: usize = 19;
/// Bytes of `struct nvpair_header`: type, length of the name, size and items of the data.
const PAIR: usize = 19;
const MAGIC: u8 = 0x6c;
/// `NV_TYPE_*` of nv.h.
const BOOL: u8 = 2;
const NUMBER: u8 = 3;
const STRING: u8 = 4;
const LIST: u8 = 5;
const BINARY: u8 = 7;
const NUMBERS: u8 = 9;
const UP: u8 = 255;
/// NV_FLAG_BIG_ENDIAN.
const FLAGS: u8 = if cfg!(target_endian = "big") { 0x80 } else { 0 };

/// A value of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A truth.
    Bool(bool),
    /// A number.
    Number(u64),
    /// A text, without NUL.
    String(&'static str),
    /// Bytes; the kernel refuses none.
    Binary(Vec<u8>),
    /// Numbers; the kernel refuses none.
    Numbers(Vec<u64>),
    /// A list.
    List(List),
}

/// Names and their values.
pub type List = Vec<(&'static str, Value)>;

/// The bytes of a list, as nvlist_pack(9) gives them.
#[must_use]
pub fn pack(list: &List) -> Vec<u8> {
    let total = size(list);
    let mut bytes = Vec::with_capacity(total);
    put_list(list, total, &mut bytes);
    bytes
}

fn size(list: &List) -> usize {
    HEADER + list.iter().map(|(name, value)| PAIR + name.len() + 1 + size_of_value(value)).sum::<usize>()
}

fn size_of_value(value: &Value) -> usize {
    match value {
        Value::Bool(_) => 1,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 1,
        Value::Binary(data) => data.len(),
        Value::Numbers(values) => values.len() * 8,
        // With the pair without a name that closes it.
        Value::List(inner) => size(inner) + PAIR + 1,
    }
}

/// `total`: how long everything will be, as each header says what follows it up to the end.
fn put_list(list: &List, total: usize, bytes: &mut Vec<u8>) {
    bytes.extend([MAGIC, 0, FLAGS]);
    put(0, bytes);
    put(total - bytes.len() - 8, bytes);
    for (name, value) in list {
        let (kind, items) = match value {
            Value::Bool(_) => (BOOL, 0),
            Value::Number(_) => (NUMBER, 0),
            Value::String(_) => (STRING, 0),
            Value::Binary(_) => (BINARY, 0),
            Value::Numbers(values) => (NUMBERS, values.len()),
            Value::List(_) => (LIST, 0),
        };
        put_head(name, kind, size_of_value(value), items, bytes);
        match value {
            Value::Bool(value) => bytes.push(u8::from(*value)),
            Value::Number(value) => bytes.extend(value.to_ne_bytes()),
            Value::String(text) => bytes.extend(text.bytes().chain([0])),
            Value::Binary(data) => bytes.extend(data),
            Value::Numbers(values) => bytes.extend(values.iter().flat_map(|value| value.to_ne_bytes())),
            Value::List(inner) => {
                put_list(inner, total, bytes);
                put_head("", UP, 0, 0, bytes);
            }
        }
    }
}

fn put_head(name: &str, kind: u8, size: usize, items: usize, bytes: &mut Vec<u8>) {
    bytes.push(kind);
    // Names are words of this program's.
    bytes.extend((name.len() as u16 + 1).to_ne_bytes());
    put(size, bytes);
    put(items, bytes);
    bytes.extend(name.bytes().chain([0]));
}

fn put(number: usize, bytes: &mut Vec<u8>) {
    bytes.extend((number as u64).to_ne_bytes());
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;

    #[test]
    fn lists_are_packed_as_the_kernel_packs_them() {
        // nvlist_pack(3) of FreeBSD gives `killed` so.
        let killed = pack(&vec![("killed", Value::Number(3))]);
        let mut wanted = vec![0x6c, 0, 0];
        wanted.extend([0; 8]);
        wanted.extend([34, 0, 0, 0, 0, 0, 0, 0]);
        wanted.extend([NUMBER, 7, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
        wanted.extend([0; 8]);
        wanted.extend(b"killed\0");
        wanted.extend([3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(killed, wanted);
    }

    #[test]
    fn a_list_within_a_list_counts_to_the_end_of_all_and_is_closed() {
        let inner = vec![("b", Value::Bool(true))];
        let bytes = pack(&vec![("in", Value::List(inner)), ("s", Value::String("x"))]);
        let number =
            |at: usize| usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap();
        assert_eq!(number(11), bytes.len() - HEADER);
        let at = HEADER + PAIR + 3;
        assert_eq!((bytes[at], number(at + 11)), (MAGIC, bytes.len() - at - HEADER));
        let up = at + HEADER + PAIR + 2 + 1;
        assert_eq!((bytes[up], number(up + 3), bytes[up + PAIR]), (UP, 0, 0));
        assert_eq!(number(HEADER + 3), up + PAIR + 1 - at, "what the pair holds is the list and its end");
        assert_eq!(bytes[up + PAIR + 1], STRING);
        assert_eq!(bytes.last(), Some(&0));
    }
}
