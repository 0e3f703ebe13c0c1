//! Diagnostics in the log: reports of refusals and crashes, audits, frame dumps.

pub mod audit;
pub mod callers;
pub mod crash;
pub mod debug_keys;
pub mod frame_dump;
pub mod listing;
pub mod report;
