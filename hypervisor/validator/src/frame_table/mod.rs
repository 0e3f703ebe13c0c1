//! The frame table: 16 bytes for each machine frame, and every change that they can go through.
//!
//! A frame has two atomic words. The **reference word** says whose it is and how many references
//! hold it; the **type word** says what it is used as, by how many, and what it still owes to the
//! TLBs. No lock guards them: each change is one compare-exchange (or, where a state gives one CPU
//! the frame to itself, one store), and each is a method here. Nobody else touches the words.
//!
//! # States of the type word
//!
//! | state        | count | who may leave it      | the frame's entries                      |
//! |--------------|-------|-----------------------|------------------------------------------|
//! | idle         | 0     | anyone, to any type   | hold nothing                             |
//! | validating   | 1     | the CPU that entered  | `[0, where it is)` hold references       |
//! | validated    | >= 1  | anyone                | every present one holds what its level prescribes |
//! | partial      | 0     | anyone: on, or back   | `[0, resume)` hold references            |
//! | devalidating | 0     | the CPU that entered  | `[0, where it is)` hold references       |
//!
//! ```text
//!             begin               publish
//!       idle ------> validating ----------> validated --+ join / leave
//!        ^  ^          |   ^                    |     <-+
//!        |  +---fail---+   | resume             | last leave
//!        |         suspend v                    v
//!        |               partial <-suspend- devalidating
//!        |                  +-----undo---------^  |
//!        +--------------------------settle--------+
//! ```
//!
//! A writable frame goes through validating only while a flush is owed, and is idle again at once
//! when the last reference goes. Whoever meets *validating* or *devalidating* does not wait but
//! stops as preempted: the CPU inside may be waiting for a TLB flush that the waiter must answer.
//!
//! # Invariants
//!
//! * `INV-TYPE` A frame has one type at a time: the type of a frame changes only from idle.
//! * `INV-ALIAS` A frame typed L1..L4 or descriptor (in any state but idle) has no writable entry
//!   in any live table of any domain.
//! * `INV-TLB` When validation of a frame begins to read, no CPU remembers a writable translation
//!   of it; and when a frame becomes writable, no CPU remembers it as a table. The type is taken
//!   first, then the CPUs are flushed, then the frame is read (XSA-401): a writer that slips in
//!   between fails to take its type.
//! * `INV-ENTRY` A present entry of a validated table, and of the prefix of a partial one, has
//!   only bits that its level permits and holds exactly these references: L1 read-only: one
//!   general reference of the target; L1 writable: one writable type reference; above: one type
//!   reference of the level below, the target being validated. A read-only entry above L1 that
//!   points to its own table holds none.
//! * `INV-ABSENT` On a CPU with the L1TF flaw, an entry of such a table that isn't present names no
//!   memory, its owner's own neither, whatever address bits above those of a physical address it
//!   has: the entry outlives the ownership of the frame.
//! * `INV-COUNT` The counts are the number of holders, neither more nor less. A type that is not
//!   idle holds exactly one general reference, whatever its count.
//! * `INV-PIN` Pinned is exactly one type reference, and at most one.
//! * `INV-OWNER` Every frame of RAM is free, a domain's, or the hypervisor's. A domain's frame
//!   changes owner only when its general count is the allocation alone, which implies an idle type.
//! * `INV-CLEAN` When a free frame gets an owner, whoever that is (the same domain again, another,
//!   the hypervisor), no CPU remembers a translation of it or a walk through it: the CPUs are
//!   flushed first, and the frame is cleared after, so that nobody can write to it in between. Only
//!   [`CleanFrames`](crate::CleanFrames) can be given to anybody.
//! * `INV-FOREIGN` A present L1 entry points to a frame of its table's owner, or to one that another
//!   domain granted ([`Validator::map_granted`](crate::Validator::map_granted)), which holds the
//!   same references and is marked as lent before the entry is there. Of a lent frame no CPU is
//!   presumed to know nothing: where the owner's CPUs would be flushed, all are.
//! * `INV-CACHE` A frame has one memory type: that of all its mappings, and write-back if the
//!   hypervisor itself holds it, since it sees every frame through a write-back view. The type
//!   changes only while the allocation alone refers to the frame; then the TLBs are flushed, then
//!   the caches of it, and then it is mapped in the new way. In this order: a CPU that still
//!   remembers an old translation could write past the caches, or into them, after they were
//!   flushed. Only a domain whose policy is [`CachePolicy::Report`](crate::CachePolicy::Report)
//!   can have a frame *mixed*, and until the allocation alone is left of that too, it is no table,
//!   no descriptor page, and not shared.
//! * `INV-COHERENT` No frame is read as a table or descriptor page, and none is free, that was
//!   mapped other than write-back since the caches were last flushed of it (XSA-402): it follows
//!   from `INV-CACHE`, as the type is what says whether they were.
//! * `INV-PARTIAL` A partial table has count 0, and every table below its prefix is validated.
//! * `INV-RESERVED` The hypervisor's slots of a root are installed exactly while it is validated;
//!   nothing that a guest wrote there is ever used.
//! * `INV-FAST` A change of a live entry that takes no reference changes no bit but accessed,
//!   dirty, software's, and no-execute.
//! * `INV-BOUND` No call visits more entries than its budget plus a handful, changes the memory
//!   type of more than 32 frames, or tells of more than one that is mixed; and recursion is at
//!   most eight deep: four levels up, and four down for a half-made table met at the bottom.
//! * `INV-STAMP` The stamp of an idle frame is no older than the moment at which its last mapping
//!   of the kind left the tables.
//!
//! # Memory ordering
//!
//! Every taking compare-exchange is acquire, every dropping one release, and both where a state is
//! entered: what the CPU that leaves a frame did to it (clearing the entry, stamping, validating)
//! is seen by the one that takes it next. References taken on a frame that is already held order
//! nothing, but are acquire as well, since they pair with the `publish` that made it usable.

mod kind;
mod memtype;
mod record;
mod refs;
mod types;
mod word;

pub use kind::{Kind, Purpose, State};
pub(crate) use memtype::Reservation;
pub use record::{FrameEntry, FrameInfo};
pub use refs::owned_pattern;
pub(crate) use refs::{LastUser, RefError};
pub(crate) use types::{BeginError, Begun, PutOutcome};
pub(crate) use word::{Progress, RefWord, STAMP_BITS};
