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

/// A way of locking the [`Mmu`] and the pager.
pub(super) trait Lock {
    /// Does something while both are locked.
    fn with<R>(&self, work: impl FnOnce(&mut Mmu<Native>, &mut Pager<InMemory>) -> R) -> R;
}

/// A vCPU that copies buffers, with a way of locking.
pub(super) struct Context<L> {
    pub(super) cpu: usize,
    pub(super) lock: L,
}

impl<L: Lock> CpuContext for Context<L> {
    type Platform = Native;
    type Store = InMemory;

    fn cpu_id(&self) -> usize {
        self.cpu
    }

    fn with_mmu<R>(&self, work: impl FnOnce(&mut Mmu<Native>, &mut Pager<InMemory>) -> R) -> R {
        self.lock.with(work)
    }

    fn load(&self, va: Vaddr) -> u64 {
        words::load(va)
    }

    fn store(&self, va: Vaddr, word: u64) {
        words::store(va, word);
    }
}

/// Locks for each step: contents are copied while others map and pin.
#[derive(Clone, Copy)]
pub(super) struct LockPerStep<'a> {
    pub(super) fixture: &'a Fixture<'a>,
    pub(super) storage: &'a Mutex<Pager<InMemory>>,
}

impl Lock for LockPerStep<'_> {
    fn with<R>(&self, work: impl FnOnce(&mut Mmu<Native>, &mut Pager<InMemory>) -> R) -> R {
        let mut mmu = self.fixture.mmu();
        work(&mut mmu, &mut self.storage.lock())
    }
}

/// Holds both for the whole round, so that the frame that is freed last is allocated first.
pub(super) struct LockPerRound<'a>(pub(super) RefCell<(Owner<'a>, Pager<InMemory>)>);

impl Lock for LockPerRound<'_> {
    fn with<R>(&self, work: impl FnOnce(&mut Mmu<Native>, &mut Pager<InMemory>) -> R) -> R {
        let (mmu, storage) = &mut *self.0.borrow_mut();
        work(mmu, storage)
    }
}
