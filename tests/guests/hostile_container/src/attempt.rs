//! Attempts, and how they end.

use pinfold_guest::entry::catch::{Trap, catch};
use pinfold_guest::fixtures::Check;

/// Invalid opcode.
pub(crate) const UD: u8 = 6;
/// General protection.
pub(crate) const GP: u8 = 13;
/// Page fault.
pub(crate) const PF: u8 = 14;

/// Tries code, and returns the exception that stopped it.
pub(crate) fn stopped_by(code: impl FnMut()) -> Option<Trap> {
    // SAFETY: the code of this guest owns nothing up to where it is stopped.
    unsafe { catch(code) }.err()
}

/// Checks that code is stopped by an exception of this vector.
pub(crate) fn raises(check: &mut Check, what: &str, vector: u8, code: impl FnMut()) {
    check.equal(what, stopped_by(code).map(|trap| trap.vector), Some(vector));
}

/// Checks that code isn't stopped.
pub(crate) fn succeeds(check: &mut Check, what: &str, code: impl FnMut()) {
    check.equal(what, stopped_by(code).map(|trap| trap.vector), None);
}
