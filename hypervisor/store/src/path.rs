//! Paths: which are valid, and where they lead.

use crate::quota::{ABSOLUTE_PATH, RELATIVE_PATH};
use crate::wire::Error;
use core::fmt::{self, Write};

/// The node that a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place<'a> {
    /// A node of the domain's own, relative to its home; empty: home itself.
    Own(&'a [u8]),
    /// Somewhere else.
    Outside,
}

/// Writes the home of a domain.
///
/// # Errors
/// If there is no room for it.
pub(crate) fn write_home(to: &mut impl Write, domain: u16) -> fmt::Result {
    write!(to, "/local/domain/{domain}")
}

/// Where a path leads.
///
/// # Errors
/// [`Error::Invalid`] for what can't be a path.
pub(crate) fn find<'a>(home: &[u8], path: &'a [u8]) -> Result<Place<'a>, Error> {
    let absolute = path.first() == Some(&b'/');
    let most = if absolute { ABSOLUTE_PATH } else { RELATIVE_PATH };
    let valid = |byte: &u8| byte.is_ascii_alphanumeric() || b"-/_@".contains(byte);
    let whole = !path.is_empty() && path.len() <= most && path.iter().all(valid);
    // The root alone may end in a slash.
    let parted = path == b"/" || !path.ends_with(b"/") && !path.windows(2).any(|two| two == b"//");
    if !whole || !parted {
        return Err(Error::Invalid);
    }
    if !absolute {
        return Ok(Place::Own(path));
    }
    Ok(match path.strip_prefix(home) {
        Some(b"") => Place::Own(b""),
        Some([b'/', rest @ ..]) => Place::Own(rest),
        _ => Place::Outside,
    })
}

/// The parent of a node; home has none here.
pub(crate) fn parent(key: &[u8]) -> Option<&[u8]> {
    match key.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => Some(&key[..slash]),
        None if key.is_empty() => None,
        None => Some(b""),
    }
}

/// Whether a node is another, or below it.
pub(crate) fn is_within(key: &[u8], above: &[u8]) -> bool {
    match key.strip_prefix(above) {
        Some(rest) => above.is_empty() || rest.is_empty() || rest[0] == b'/',
        None => false,
    }
}
