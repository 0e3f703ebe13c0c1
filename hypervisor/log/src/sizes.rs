//! Sizes of records, and of what the buffer stores with them.

/// Tells readers of the log to ignore the line that it ends: CAN (0x18) and a line end.
pub const CANCEL: &[u8] = b"\x18\r\n";
/// Longest record in bytes, its line end included.
pub const MAX_RECORD: usize = 1024;
/// Bytes that the ring holds before each record: its source (1) and its length (2).
pub(crate) const HEADER: usize = 3;
/// Longest DROPPED record in bytes.
pub(crate) const MAX_DROPPED_RECORD: usize = 128;
/// Bytes that one record may need besides its own text.
pub(crate) const OVERHEAD: usize = HEADER + CANCEL.len() + MAX_DROPPED_RECORD;
