//! What is told of a refusal or a crash: reports, searches, audits, dumps.

pub mod audit;
pub mod callers;
pub mod frame_dump;
pub mod listing;
pub mod report;
