//! The grammar of addresses: `node:hook.hook` (ng_base.c:ng_path_parse).

use crate::errno::Errno;

/// An address taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Path<'a> {
    /// What is before the colon: a name, `[id]`, or `.`. Without it the path starts at the sender.
    pub node: Option<&'a [u8]>,
    /// Hooks to follow, with dots between them.
    pub hooks: Option<&'a [u8]>,
}

/// Takes an address apart. EINVAL for an empty node, a second colon, a dot in a node's name, two dots in a row. One dot at each
/// end of the hooks means nothing.
pub(super) fn parse(address: &[u8]) -> Result<Path<'_>, Errno> {
    let (node, mut hooks) = match address.iter().position(|b| *b == b':') {
        Some(colon) => {
            let (node, rest) = address.split_at(colon);
            (Some(node), rest.get(1..).unwrap_or_default())
        }
        None => (None, address),
    };
    if node.is_some_and(|node| node.is_empty() || (node != b"." && node.contains(&b'.'))) {
        return Err(Errno::EINVAL);
    }
    if hooks.contains(&b':') || hooks.windows(2).any(|pair| pair == b"..") {
        return Err(Errno::EINVAL);
    }
    hooks = hooks.strip_prefix(b".").unwrap_or(hooks);
    hooks = hooks.strip_suffix(b".").unwrap_or(hooks);
    Ok(Path { node, hooks: (!hooks.is_empty()).then_some(hooks) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let path = |text: &'static str| parse(text.as_bytes()).map(|p| (p.node, p.hooks));
        let some = |text: &'static str| Some(text.as_bytes());
        assert_eq!(path("node:"), Ok((some("node"), None)));
        assert_eq!(path("node:a.b"), Ok((some("node"), some("a.b"))));
        assert_eq!(path("[1f]:a"), Ok((some("[1f]"), some("a"))));
        assert_eq!(path("a"), Ok((None, some("a"))));
        assert_eq!(path("a.b"), Ok((None, some("a.b"))));
        assert_eq!(path("."), Ok((None, None)));
        assert_eq!(path(".:"), Ok((some("."), None)));
        assert_eq!(path(".:a"), Ok((some("."), some("a"))));
        assert_eq!(path(""), Ok((None, None)));
        assert_eq!(path("node:.a."), Ok((some("node"), some("a"))));
        for bad in [":", ":a", "a.b:", "a:b:c", "a:b..c", "..", "..:"] {
            assert_eq!(path(bad), Err(Errno::EINVAL), "{bad}");
        }
    }
}
