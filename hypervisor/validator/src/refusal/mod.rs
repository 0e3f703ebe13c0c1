//! Refusals: what was refused, why, and the evidence. The ABI's error number is derived from it.

mod cause;
mod error;
mod evidence;
mod operation;
mod record;
mod sentence;

pub use cause::Cause;
pub use error::Error;
pub use operation::Operation;
pub use record::{EntryLocation, Refusal};
