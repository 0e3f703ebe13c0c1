//! What was refused, and why: evidence first, the ABI's number derived from it.

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
