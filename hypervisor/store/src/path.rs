//! Paths: which are valid, and which node of the domain they name.
//!
//! A *key* is a path relative to the domain's base path; the base path itself has the empty key.

use crate::quota::{ABSOLUTE_PATH, RELATIVE_PATH};
use crate::wire::Error;
use core::fmt::{self, Write};

/// Writes the base path of a domain, `/local/domain/<id>`.
///
/// # Errors
/// If `to` has no room for it.
pub(crate) fn write_base_path(to: &mut impl Write, domain: u16) -> fmt::Result {
    write!(to, "/local/domain/{domain}")
}

/// The key of the node that a path names; `None` if it isn't one of the domain's.
///
/// # Errors
/// [`Error::Invalid`]: not a valid path.
pub(crate) fn resolve<'a>(base: &[u8], path: &'a [u8]) -> Result<Option<&'a [u8]>, Error> {
    let absolute = path.first() == Some(&b'/');
    let max = if absolute { ABSOLUTE_PATH } else { RELATIVE_PATH };
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-/_@".contains(byte);
    let valid_bytes = !path.is_empty() && path.len() <= max && path.iter().all(allowed);
    // Only the root may end with a slash.
    let valid_slashes =
        path == b"/" || !path.ends_with(b"/") && !path.windows(2).any(|two| two == b"//");
    if !valid_bytes || !valid_slashes {
        return Err(Error::Invalid);
    }
    if !absolute {
        return Ok(Some(path));
    }
    Ok(match path.strip_prefix(base) {
        Some(b"") => Some(b""),
        Some([b'/', key @ ..]) => Some(key),
        _ => None,
    })
}

/// The key of a node's parent; `None` for the base path.
pub(crate) fn parent(key: &[u8]) -> Option<&[u8]> {
    match key.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => Some(&key[..slash]),
        None if key.is_empty() => None,
        None => Some(b""),
    }
}

/// Whether a node is `ancestor` or below it.
pub(crate) fn is_within(key: &[u8], ancestor: &[u8]) -> bool {
    match key.strip_prefix(ancestor) {
        Some(rest) => ancestor.is_empty() || rest.is_empty() || rest[0] == b'/',
        None => false,
    }
}
