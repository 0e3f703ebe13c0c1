//! The frame table: 16 bytes for each machine frame, and every change that they can go through.
//!
//! A frame has two atomic words. The **reference word** says who owns it and how many references
//! hold it. The **type word** says what it is used as and by how many, and when CPUs may last have
//! used it. There is no lock: each change is one compare-exchange (or one store, in a state that
//! gives one CPU the frame to itself), and each is a method here. Nothing else touches the words.
//!
//! # States of the type word
//!
//! | state        | count | who may leave it       | the frame's entries                      |
//! |--------------|-------|------------------------|------------------------------------------|
//! | idle         | 0     | any CPU, to any type   | hold no references                       |
//! | validating   | 1     | the CPU that began     | `[0, its position)` hold references      |
//! | validated    | >= 1  | any CPU                | every present one holds what its level prescribes |
//! | partial      | 0     | any CPU, forth or back | `[0, resume)` hold references            |
//! | devalidating | 0     | the CPU that began     | `[0, its position)` hold references      |
//!
//! ```text
//!           begin_type              publish
//!       idle ------> validating ----------> validated --+ get_type_ref
//!        ^  ^          |   ^                    |     <-+ put_type_ref
//!        |  +-finish---+   | begin_type         | last put_type_ref
//!        |         suspend v                    v
//!        |               partial <-suspend- devalidating
//!        |                  +---begin_undo-----^  |
//!        +--------------------------finish--------+
//! ```
//!
//! A writable frame is in validating only while CPUs are flushed for it, and is idle again as soon as
//! the last reference goes. A CPU that meets *validating* or *devalidating* does not wait, but stops
//! as preempted: the CPU that began may be waiting for it to flush its TLB.
//!
//! # Invariants
//!
//! `docs/invariants.md` lists them, with the code that holds each and the tests that look at it. Those
//! of this folder: `INV-TYPE`, `INV-COUNT`, `INV-PIN`, `INV-OWNER`, `INV-STAMP`, `INV-PARTIAL`.
//!
//! # Memory ordering
//!
//! A compare-exchange that takes a reference is acquire, one that drops a reference is release, and
//! one that begins or ends a state is both. So what the CPU that leaves a frame did to it (clearing
//! the entry, stamping, validating) is seen by the one that takes it next. A reference to a frame
//! that is already held needs no order for that, but is acquire as well: it pairs with the `publish`
//! that made the type usable.

mod kind;
mod memtype;
mod record;
mod refs;
mod types;
mod word;

pub use kind::{Kind, Purpose, State};
pub(crate) use memtype::Reservation;
pub use record::{FrameEntry, FrameInfo};
pub(crate) use refs::owned_pattern;
pub(crate) use refs::{LastUser, RefError};
pub(crate) use types::{BeginError, Begun, PutOutcome};
pub(crate) use word::{Progress, RefWord, STAMP_BITS};
