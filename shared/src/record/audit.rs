//! AUDIT records: what recounting all references found, and proof that memory came back.

use super::field::record;
use super::value::{Bit, Hex, Hex16, MemoryTypes};
use crate::address::Mfn;

record!(
    /// An audit is over.
    AUDIT "", AuditSummary {
        /// Frames of RAM.
        frames: u64 => "frames",
        /// Those that are the hypervisor's own.
        own: u64 => "own",
        /// Tables that were recounted.
        tables: u64 => "tables",
        /// Present entries in them.
        entries: u64 => "entries",
        /// Canaries that were laid since the start, if the manifest wants them.
        canaries: Option<u64> => "canaries",
        /// Times that one was found overwritten.
        broken: Option<u64> => "broken",
        /// Discrepancies and broken canaries: 0, or the run has failed.
        wrong: u64 => "wrong",
    }
);

record!(
    /// A frame whose record in the frame table differs from the recount.
    AUDIT "", Discrepancy<'a> {
        /// The frame.
        frame: Mfn => "frame",
        /// What differs: `references`, `type_count`, `type`, `writable_table`, `cached`, `unowned`,
        /// `hypervisor_frame`, `pinned_idle`, `in_transit` or `entry`.
        wrong: &'a str => "wrong",
        /// References counted.
        counted: Option<u64> => "counted",
        /// Type that the tables use it as.
        used_as: Option<&'a str> => "used_as",
        /// Memory types that its mappings have.
        types: Option<MemoryTypes> => "as",
        /// Memory type that the frame table has.
        present: Option<&'a str> => "present",
        /// Slot of an entry that may not stand there.
        index: Option<u16> => "index",
        /// The entry.
        entry: Option<Hex16> => "entry",
        /// Type that the frame table has.
        seen: &'a str => "seen",
        /// Its state.
        state: &'a str => "state",
        /// References of that type.
        count: u64 => "count",
        /// References of any kind.
        refs: u64 => "refs",
        /// Whether it is pinned.
        pinned: Bit => "pinned",
    }
);

record!(
    /// The memory of a domain that ended is free again.
    AUDIT "teardown", Teardown {
        /// Frames freed.
        freed: u64 => "freed",
        /// Frames that another domain still maps and will free.
        kept: u64 => "kept",
        /// Frames that can't be freed: 0, or the run has failed.
        stuck: u64 => "stuck",
        /// Free frames of the machine after that.
        free_frames: u64 => "free_frames",
    }
);

record!(
    /// Frames that are still a domain's after all domains are gone: the run has failed.
    AUDIT "leftovers", Leftovers {
        /// How many.
        stuck: u64 => "stuck",
    }
);

record!(
    /// Allocations of the hypervisor's heap while guests ran.
    AUDIT "heap", Heap {
        /// How many.
        late_allocations: u64 => "late_allocations",
        /// Bytes of the first of them.
        first_bytes: u64 => "first_bytes",
        /// The same number: 0, or the run has failed.
        wrong: u64 => "wrong",
    }
);

record!(
    /// A canary was overwritten: somebody wrote to a frame that was free.
    AUDIT "canary", Canary {
        /// The frame.
        frame: Mfn => "frame",
        /// Byte of the frame.
        offset: Hex => "offset",
        /// What should be there.
        expected: Hex => "expected",
        /// What is there.
        seen: Hex => "seen",
    }
);
