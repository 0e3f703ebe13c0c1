//! What is told of a refusal or a crash: reports, searches, audits, dumps.

pub mod audit;
pub mod callers;
pub mod crash;
pub mod debug_keys;
pub mod frame_dump;
pub mod listing;
pub mod report;
