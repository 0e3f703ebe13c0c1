//! How a vCPU gets at the [`Mmu`] and the pager: locked for each step, or for a whole round.

use super::super::fixture::{Fixture, Owner};
use crate::words;
use core::cell::RefCell;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::buffer::CpuContext;
use pinfold_guest::entry::Native;
use pinfold_guest::entry::lock::Mutex;
use pinfold_guest::mmu::Mmu;
use pinfold_guest::pageable::{InMemory, Pager};

/// Locks for each step: contents are copied while others map and pin.
pub(super) struct LockPerStep<'a> {
    pub(super) fixture: &'a Fixture<'a>,
    pub(super) storage: &'a Mutex<Pager<InMemory>>,
    pub(super) cpu: usize,
}

impl CpuContext for LockPerStep<'_> {
    type Platform = Native;
    type Store = InMemory;

    fn cpu_id(&self) -> usize {
        self.cpu
    }

    fn with_mmu<R>(&self, work: impl FnOnce(&mut Mmu<Native>, &mut Pager<InMemory>) -> R) -> R {
        let mut mmu = self.fixture.mmu();
        work(&mut mmu, &mut self.storage.lock())
    }

    fn load(&self, va: Vaddr) -> u64 {
        words::load(va)
    }

    fn store(&self, va: Vaddr, word: u64) {
        words::store(va, word);
    }
}

/// Holds both for the whole round, so that the frame that is freed last is allocated first.
pub(super) struct LockPerRound<'a> {
    pub(super) owner: RefCell<(Owner<'a>, Pager<InMemory>)>,
    pub(super) cpu: usize,
}

impl CpuContext for LockPerRound<'_> {
    type Platform = Native;
    type Store = InMemory;

    fn cpu_id(&self) -> usize {
        self.cpu
    }

    fn with_mmu<R>(&self, work: impl FnOnce(&mut Mmu<Native>, &mut Pager<InMemory>) -> R) -> R {
        let (mmu, storage) = &mut *self.owner.borrow_mut();
        work(mmu, storage)
    }

    fn load(&self, va: Vaddr) -> u64 {
        words::load(va)
    }

    fn store(&self, va: Vaddr, word: u64) {
        words::store(va, word);
    }
}
