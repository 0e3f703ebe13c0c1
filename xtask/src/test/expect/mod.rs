//! What the log of a case is checked for, beyond how its guests ended.

pub(super) mod agree;
pub(super) mod latency;
pub(super) mod levels;
pub(super) mod report;
pub(super) mod torn;
