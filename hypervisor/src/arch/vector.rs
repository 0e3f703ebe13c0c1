//! Exception vectors (Intel SDM vol. 3, table 6-1).

/// #DB: debug exception.
pub const DEBUG: u8 = 1;
/// #UD: invalid opcode.
pub const INVALID_OPCODE: u8 = 6;
/// #NM: the FPU was used while CR0.TS is set.
pub const DEVICE_NOT_AVAILABLE: u8 = 7;
/// #GP: general protection.
pub const GENERAL_PROTECTION: u8 = 13;
/// #PF: page fault.
pub const PAGE_FAULT: u8 = 14;

/// Whether the processor pushes an error code (Intel SDM vol. 3, table 6-1).
pub fn has_error_code(number: u8) -> bool {
    matches!(number, 8 | 10..=14 | 17)
}
