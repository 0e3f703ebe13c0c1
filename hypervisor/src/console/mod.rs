//! The serial console: the log, and what guests print.

pub mod guest;
pub mod log;
pub mod serial;
