//! A guest that never flushes: it maps frames in a row of slots, uses them, and clears the entries.

use super::machine::Machine;
use super::{GrantState, World};
use crate::grant::mapping::{GrantMapper, MapError, MapRequest, UnmapBatch};
use crate::teardown::{DomainTeardown, TeardownStep, TeardownSummary};
use pinfold_abi::address::PAGE_SIZE;
use pinfold_abi::grant::{EntryFlags, MapFlags, Status};
use pinfold_abi::mmu::ENTRY_ADDRESS;
use pinfold_validator::{Budget, DomId, Error, Index, Level, Mfn, Update, Vaddr};
use std::boxed::Box;
use std::vec::Vec;

/// Slots of the L1 table that are used.
pub(super) const SLOTS: usize = 24;
/// Present, writable, user, accessed, dirty.
const RW: u64 = 0x67;
/// The same, read-only.
const RO: u64 = 0x65;

/// A guest.
pub(super) struct Guest {
    pub(super) dom: DomId,
    /// Root, L3, L2, L1.
    tables: [Mfn; 4],
    /// Frames that it has, whatever it does with them.
    pub(super) frames: Vec<Mfn>,
    pub(super) grants: &'static GrantState,
    /// Handles of granted frames, and the slots that they were mapped at.
    pub(super) handles: Vec<(u32, usize)>,
}

pub(super) fn address(slot: usize) -> Vaddr {
    Vaddr::new(slot as u64 * PAGE_SIZE)
}

impl Guest {
    /// Builds a domain with its tables and so many frames more.
    pub(super) fn build(world: &World, dom: DomId, frames: usize) -> Guest {
        let alloc = || {
            let frame = world.allocator.alloc_domain_frames(dom, 0).expect("room for a guest");
            world.machine.assert_zero(frame);
            frame
        };
        let tables: [Mfn; 4] = std::array::from_fn(|_| alloc());
        for pair in tables.windows(2) {
            world.machine.set(pair[0], 0, pair[1].address() | RW);
        }
        let root = tables[0];
        world.validator.pin(dom, Level::L4, root, &mut Budget::new(u32::MAX)).unwrap();
        world.validator.get_root_ref(dom, root, &mut Budget::new(u32::MAX)).unwrap();
        let grants: &'static GrantState = Box::leak(Box::new(GrantState::new(world.machine)));
        world.grants.0.lock().unwrap().push((dom, grants));
        let frames = (0..frames).map(|_| alloc()).collect();
        Guest { dom, tables, frames, grants, handles: Vec::new() }
    }

    pub(super) fn root(&self) -> Mfn {
        self.tables[0]
    }

    /// What a slot's entry maps.
    pub(super) fn mapped(&self, machine: &Machine, slot: usize) -> Option<Mfn> {
        let entry = machine.get(self.tables[3], slot);
        (entry & 1 != 0).then(|| Mfn::from_address(entry & ENTRY_ADDRESS))
    }

    /// Stores an entry, and flushes nothing.
    fn store(&self, world: &World, slot: usize, value: u64) -> Result<(), Error> {
        let update = Update {
            dom: self.dom,
            table_owner: self.dom,
            target_owner: self.dom,
            table: self.tables[3],
            index: Index::new(slot),
            value,
            preserve_ad: false,
        };
        world.validator.update(update, &mut Budget::new(u32::MAX)).map(|_| ())
    }

    /// Maps a frame at a slot.
    pub(super) fn map(
        &self,
        world: &World,
        slot: usize,
        frame: Mfn,
        writable: bool,
    ) -> Result<(), Error> {
        self.store(world, slot, frame.address() | if writable { RW } else { RO })
    }

    /// Clears a slot, without a flush.
    pub(super) fn clear(&self, world: &World, slot: usize) {
        self.store(world, slot, 0).unwrap();
    }

    /// Clears every slot that maps a frame, without a flush.
    pub(super) fn clear_all_of(&self, world: &World, frame: Mfn) {
        for slot in 0..SLOTS {
            if self.mapped(world.machine, slot) == Some(frame) {
                self.clear(world, slot);
            }
        }
    }

    /// Runs on a CPU.
    pub(super) fn run_on(&self, world: &World, cpu: usize) {
        world.machine.load(cpu, Some((self.dom, self.root())));
    }

    /// Gives a frame back.
    pub(super) fn give_back(&mut self, world: &World, frame: Mfn) -> bool {
        let given = world.allocator.release(frame, self.dom).is_ok();
        if given {
            self.frames.retain(|&own| own != frame);
        }
        given
    }

    /// Grows the grant table to so many frames; new ones hold nothing.
    pub(super) fn grow_grant_table(&self, world: &World, count: usize) -> Result<(), Status> {
        let before = self.grants.frame_count();
        self.grants.grow(world.allocator, self.dom, count)?;
        for index in before..count {
            world.machine.assert_zero(self.grants.frame(index).unwrap());
        }
        Ok(())
    }

    /// Grants a frame to another domain, by an entry of the first frame of its table.
    pub(super) fn grant(&self, world: &World, reference: usize, to: DomId, frame: Mfn) {
        let table = self.grants.frame(0).expect("it has a table");
        let flags = u64::from(EntryFlags::PERMIT_ACCESS.bits());
        let entry = flags | u64::from(to.get()) << 16 | frame.get() << 32;
        world.machine.set(table, reference, entry);
    }

    fn borrower<'w>(
        &'w self,
        world: &'w World,
    ) -> GrantMapper<'w, 'static, &'static Machine, &'static Machine, spin::Spin, super::Listed>
    {
        GrantMapper {
            allocator: world.allocator,
            domains: &world.grants,
            dom: self.dom,
            grants: self.grants,
            root: self.root(),
            budget: 8192,
        }
    }

    /// Maps what another domain granted.
    pub(super) fn map_grant(
        &mut self,
        world: &World,
        slot: usize,
        granter: DomId,
        reference: u32,
    ) -> Result<Mfn, MapError> {
        let address = address(slot).get();
        let wanted = MapRequest { address, flags: MapFlags::HOST_MAP, granter, reference };
        let (handle, frame) = self.borrower(world).map(&wanted)?;
        self.handles.push((handle, slot));
        Ok(frame)
    }

    /// Ends a mapping of a granted frame by its handle.
    pub(super) fn unmap_grant(&mut self, world: &World, which: usize) -> Result<(), MapError> {
        let (handle, slot) = self.handles[which];
        let mut unmapped = UnmapBatch::default();
        let result = unmapped.add(&self.borrower(world), handle, address(slot).get(), None);
        unmapped.finish(&self.borrower(world));
        if result.is_ok() {
            self.handles.remove(which);
        }
        result
    }

    /// Ends the domain, in small steps. CPUs that run it stop first.
    pub(super) fn end(self, world: &World, mut between: impl FnMut()) -> TeardownSummary {
        for cpu in 0..super::CPUS {
            if world.machine.running(cpu) == Some(self.dom) {
                world.machine.load(cpu, None);
            }
        }
        world.validator.put_root_ref(self.dom, self.root(), &mut Budget::new(8));
        let mut teardown = DomainTeardown::new(self.dom);
        let mut report = |refusal: &_| panic!("teardown: {refusal}");
        let summary = loop {
            let (allocator, domains) = (world.allocator, &world.grants);
            match teardown.step(allocator, self.grants, domains, 32, &mut report) {
                TeardownStep::More => between(),
                TeardownStep::Done(summary) => break summary,
            }
        };
        world.grants.0.lock().unwrap().retain(|(dom, _)| *dom != self.dom);
        summary
    }
}
