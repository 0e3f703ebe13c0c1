//! Functions that this floor calls and floors above it define. The linker connects them.

use pinfold_validator::Refusal;

unsafe extern "Rust" {
    /// Reports a mapping that was made although its memory type conflicts with the frame's other
    /// mappings. Defined in `diagnostics::report`.
    pub safe fn pinfold_report_memtype_conflict(would_be_refused: &Refusal);
}
