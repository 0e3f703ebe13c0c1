//! A vCPU's alias upcall: the handler that the guest registered, and the pins it is pending for.

use super::alias_search::Listing;
use super::vcpu::Vcpu;
use crate::memory::guest::{self, GuestPtr};
use crate::memory::validator;
use arrayvec::ArrayVec;
use pinfold_abi::pinfold::{
    self, AliasUpcall, AliasesFound, FIND_TRUNCATED, MAPPING_ATTACHED, MAPPING_FREED,
    MAPPING_NAMED, MAPPING_WRITABLE,
};
use pinfold_abi::record::MappingState;
use pinfold_validator::{FrameMapping, Mfn, Vaddr};

/// Upcalls for one pin at most: for aliases of that many of its tables.
pub const MAX_UPCALLS_PER_PIN: usize = 8;

/// A vCPU's alias upcall.
#[derive(Debug, Default)]
pub struct Upcall {
    /// The registered handler and its buffer.
    pub asked: Option<AliasUpcall>,
    /// The pin for which the guest had an upcall.
    pub told: Option<PendingUpcall>,
    /// The same, for the upcall that is delivered next.
    pub next: Option<PendingUpcall>,
    /// The unfinished search of a preempted pin.
    pub searching: Option<Searching>,
}

/// A pin that is restarted after an upcall.
#[derive(Clone, Debug)]
pub struct PendingUpcall {
    /// The frame to be pinned.
    pub pin: Mfn,
    /// For each upcall: the frame with an alias, and the number of the report, if there is one.
    pub met: ArrayVec<(Mfn, Option<u64>), MAX_UPCALLS_PER_PIN>,
}

/// A search for the aliases of a refused pin, for an upcall.
#[derive(Debug)]
pub struct Searching {
    pub told: PendingUpcall,
    /// The frame that was refused.
    pub frame: Mfn,
    pub id: Option<u64>,
    pub listing: Listing,
    pub buffer: UpcallBuffer,
}

/// What is written to the guest's buffer.
#[derive(Debug)]
pub struct UpcallBuffer {
    head: GuestPtr<AliasesFound>,
    list: GuestPtr<pinfold::Mapping>,
    room: u32,
    found: AliasesFound,
    /// Flags of all mappings together.
    flags: u16,
    /// Whether every write succeeded.
    written: bool,
}

impl UpcallBuffer {
    pub fn new(asked: &AliasUpcall, frame: Mfn) -> UpcallBuffer {
        UpcallBuffer {
            head: GuestPtr::new(asked.buffer),
            list: GuestPtr::new(asked.buffer + size_of::<AliasesFound>() as u64),
            room: asked.room,
            found: AliasesFound { frame: frame.get(), nr_mappings: 0, flags: 0 },
            flags: 0,
            written: true,
        }
    }

    pub fn add(&mut self, vcpu: &Vcpu, mapping: &FrameMapping) {
        // Where another domain maps the frame is not this guest's business.
        if validator().owner(mapping.table) != Some(vcpu.domain.id) {
            return;
        }
        if self.found.nr_mappings == self.room {
            self.found.flags |= FIND_TRUNCATED;
            return;
        }
        let told = encode(vcpu, Mfn::new(self.found.frame), mapping);
        self.flags |= told.flags;
        self.written &= self.list.write_at(self.found.nr_mappings.into(), &told).is_ok();
        self.found.nr_mappings += 1;
    }

    /// Writes the header. True if the upcall is worth delivering: at least one mapping is in a named
    /// region, and all could be written.
    pub fn send(mut self, cut_short: bool) -> bool {
        if cut_short {
            self.found.flags |= FIND_TRUNCATED;
        }
        let named = self.flags & MAPPING_NAMED != 0;
        self.written && named && self.head.write(&self.found).is_ok()
    }
}

/// A mapping in the form of the ABI.
pub fn encode(vcpu: &Vcpu, frame: Mfn, mapping: &FrameMapping) -> pinfold::Mapping {
    let mut flags = 0;
    if mapping.entry.is_writable() {
        flags |= MAPPING_WRITABLE;
    }
    if let Some(va) = mapping.address {
        flags |= MAPPING_ATTACHED;
        let region = vcpu.domain.regions.lock().find(va.get());
        if let Some(region) = region {
            flags |= MAPPING_NAMED;
            if region.life(va.get(), guest::read_byte) == MappingState::Dead {
                flags |= MAPPING_FREED;
            }
        }
    }
    pinfold::Mapping {
        frame: frame.get(),
        va: mapping.address.map_or(0, Vaddr::get),
        table: mapping.table.get(),
        entry: mapping.entry.get(),
        index: mapping.index.get() as u16,
        flags,
        pad: 0,
    }
}
