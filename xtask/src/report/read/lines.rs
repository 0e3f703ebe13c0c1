//! Where records begin in the lines of a damaged log.

use pinfold_abi::record::{Record, kind};

/// Every quotation mark of the line has its partner.
pub(super) fn is_balanced(line: &str) -> bool {
    line.bytes().filter(|&byte| byte == b'"').count() % 2 == 0
}

/// Where in a line another record begins, after its first byte. Within quotation marks only if one
/// is missing; never in what a guest printed.
pub(super) fn glued_at(line: &str) -> Option<usize> {
    let own = Record::parse(line);
    if own.is_some_and(|record| matches!(record.head.kind, kind::CONSOLE | kind::PANIC)) {
        return None;
    }
    let whole = is_balanced(line);
    let mut quoted = false;
    for (at, byte) in line.bytes().enumerate().skip(1) {
        quoted ^= byte == b'"';
        if byte == b'[' && !(whole && quoted) && Record::parse(&line[at..]).is_some() {
            return Some(at);
        }
    }
    None
}
