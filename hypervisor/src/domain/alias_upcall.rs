//! A vCPU's alias upcall: where the guest wants to be told of aliases, and what it was told.

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

/// How often the guest is told of one pin: of aliases of so many of its tables.
pub const MAX_UPCALLS_PER_PIN: usize = 8;

/// A vCPU's part in it.
#[derive(Debug, Default)]
pub struct Upcall {
    /// Where the guest wants to be entered, and what it gets there.
    pub asked: Option<AliasUpcall>,
    /// The pin that the guest was told of.
    pub told: Option<PendingUpcall>,
    /// The same, as it is when the call has been suspended.
    pub next: Option<PendingUpcall>,
    /// A search that isn't at its end yet, of a pin that is suspended.
    pub searching: Option<Searching>,
}

/// A pin that was suspended.
#[derive(Clone, Debug)]
pub struct PendingUpcall {
    /// The frame to be pinned.
    pub pin: Mfn,
    /// For each time: the frame with an alias, and the number of the report, if there is one.
    pub met: ArrayVec<(Mfn, Option<u64>), MAX_UPCALLS_PER_PIN>,
}

/// A search for the aliases that a pin met, of which the guest will be told.
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
    /// Flags that some mapping has.
    flags: u16,
    /// All that was tried could be written.
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
        // Who borrowed the frame keeps to himself where he maps it.
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

    /// Writes the head; whether it is worth while to tell the guest: one of the mappings at least is
    /// in a range with a name, and all could be written.
    pub fn send(mut self, cut_short: bool) -> bool {
        if cut_short {
            self.found.flags |= FIND_TRUNCATED;
        }
        let named = self.flags & MAPPING_NAMED != 0;
        self.written && named && self.head.write(&self.found).is_ok()
    }
}

/// A mapping as a guest is told of it.
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
