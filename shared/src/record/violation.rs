//! Records about memory: refusals, the aliases behind them, and how they were healed.

use super::Who;
use super::field::{group, record};
use super::value::{Addresses, Bit, Hex, Hex16, MappingState, Maybe, Text, YesNo};
use crate::address::{Mfn, Pfn, Vaddr};

group!(
    /// Type and references of a frame, as the frame table has them.
    Seen<'a> {
        /// Domain that owns it; the hypervisor's frames have owner 32754 (`DOMID_XEN` of xen.h).
        owner: Maybe<u16> => "owner",
        /// Its type: `none`, `writable`, `l1` to `l4`, `descriptor`.
        kind: &'a str => "seen",
        /// State of that type: `idle`, `validated`, `partial` and others.
        state: &'a str => "state",
        /// References of that type.
        count: u64 => "count",
        /// References of any kind.
        refs: u64 => "refs",
        /// Whether it is pinned.
        pinned: Bit => "pinned",
    }
);

group!(
    /// The page-table or descriptor-table entry that asked for something.
    Location {
        /// Level of the table, 1 to 4; 0: no page table.
        level: u8 => "level",
        /// Frame of the table.
        table: Mfn => "table",
        /// Slot of the entry.
        index: u16 => "index",
        /// The entry.
        entry: Hex16 => "entry",
    }
);

group!(
    /// What was refused, and the evidence.
    Evidence<'a> {
        /// What was asked for: `pin_l1`, `update`, `load_root` and others.
        op: &'a str => "op",
        /// Domain that asked.
        dom: u16 => "dom",
        /// Frame that it is about.
        frame: Mfn => "frame",
        /// Why not, in one word.
        cause: &'a str => "cause",
        /// Bits of an entry that may not be set.
        bits: Option<Hex> => "bits",
        /// Descriptor that no guest may have.
        descriptor: Option<Hex16> => "descriptor",
        /// Address outside of the guest's address space.
        va: Option<Hex> => "va",
        /// Slot that does not exist.
        slot: Option<u64> => "slot",
        /// Type, or memory type, that was wanted.
        wanted: Option<&'a str> => "wanted",
        /// Memory type that the frame's mappings have.
        present: Option<&'a str> => "present",
        /// What the frame is.
        seen: Option<Seen<'a>> => "",
        /// Which entry asked for it.
        location: Option<Location> => "",
    }
);

record!(
    /// A pin, or another use as a table, was refused since the frame has writable mappings. The
    /// mappings follow as MAPPING records with the same id.
    ALIAS "", Alias<'a> {
        /// Number of the report, over all domains.
        id: u64 => "id",
        /// What was refused.
        evidence: Evidence<'a> => "",
        /// The guest's own number of the frame.
        pfn: Maybe<Pfn> => "pfn",
        /// Instruction pointer of the guest.
        rip: Hex => "rip",
        /// Return addresses on the guest's stack, innermost first.
        callers: Option<Addresses<'a>> => "callers",
        /// One sentence for people.
        why: Text<'a> => "why",
    }
);

record!(
    /// A mapping has another memory type than the frame's others: it was refused or, with
    /// `policy=report`, made all the same. The mappings follow as MAPPING records.
    CACHE "", Cache<'a> {
        /// Number of the report, over all domains.
        id: u64 => "id",
        /// What was, or would have been, refused.
        evidence: Evidence<'a> => "",
        /// The guest's own number of the frame.
        pfn: Maybe<Pfn> => "pfn",
        /// Instruction pointer of the guest.
        rip: Maybe<Hex> => "rip",
        /// Return addresses on the guest's stack, innermost first.
        callers: Option<Addresses<'a>> => "callers",
        /// `report` if the mapping was made all the same.
        policy: Option<&'a str> => "policy",
        /// One sentence for people.
        why: Text<'a> => "why",
    }
);

record!(
    /// An operation on memory was refused for another reason than an alias.
    REFUSED "", Refused<'a> {
        /// Number of the report, over all domains.
        id: u64 => "id",
        /// What was refused.
        evidence: Evidence<'a> => "",
        /// The guest's own number of the frame.
        pfn: Maybe<Pfn> => "pfn",
        /// Instruction pointer of the guest.
        rip: Hex => "rip",
        /// One sentence for people.
        why: Text<'a> => "why",
    }
);

record!(
    /// One mapping in the way, of the ALIAS or CACHE record with the same id.
    MAPPING "", Mapping<'a> {
        /// Number of the report.
        id: u64 => "id",
        /// Address at which the frame is mapped, if the table hangs in an address space.
        va: Maybe<Vaddr> => "va",
        /// Frame of the L1 table that has the entry.
        table: Mfn => "table",
        /// Slot of the entry.
        index: u16 => "index",
        /// The entry.
        entry: Hex16 => "entry",
        /// Memory type, where it is not write-back.
        memory_type: Option<&'a str> => "type",
        /// The guest's name for the range that the address is in.
        region: Maybe<Text<'a>> => "region",
        /// What the guest says of the mapping.
        state: MappingState => "state",
        /// Domain that the table belongs to, if it is another one: `d2`.
        borrower: Option<Who> => "borrower",
    }
);

record!(
    /// The search for the mappings of a report is over.
    MAPPING "", SearchEnd {
        /// Number of the report.
        id: u64 => "id",
        /// `yes`: tells this record from those of mappings.
        end: YesNo => "end",
        /// Mappings listed.
        found: u32 => "found",
        /// Whether there may be more.
        cut_short: YesNo => "cut_short",
        /// Time from the refusal to the end of the search, in microseconds.
        search_us: u64 => "search_us",
    }
);

impl SearchEnd {
    /// For a search that there is no room for: nothing is listed, and there may be mappings.
    pub const fn not_begun(id: u64) -> SearchEnd {
        SearchEnd { id, end: YesNo(true), found: 0, cut_short: YesNo(true), search_us: 0 }
    }
}

record!(
    /// A pin that had met the ALIAS with the same id went through when it was tried again.
    HEALED "", Healed<'a> {
        /// Number of the report.
        id: u64 => "id",
        /// Frame that had the alias.
        frame: Mfn => "frame",
        /// Table that was pinned.
        pinned: Mfn => "pinned",
        /// Who cleared the mappings: `upcall`.
        cleared_by: &'a str => "cleared_by",
    }
);
