//! What this floor asks of the floors above it: functions that they define and the linker finds.

use pinfold_validator::Refusal;

unsafe extern "Rust" {
    /// Reports a mapping that was made although it is cached otherwise than the frame's others.
    /// Defined in `diagnostics::report`.
    pub safe fn pinfold_report_memtype_conflict(would_be_refused: &Refusal);
}
