//! Emulation of a guest's plain stores to an L1 table that it maps read-only.
#![expect(unsafe_code, reason = "reads an entry of the loaded page tables")]

use super::emulation;
use crate::diagnostics::report;
use crate::domain::vcpu::Vcpu;
use crate::memory::{direct_map, validator};
use core::sync::atomic::Ordering;
use pinfold_abi::mmu::VMASST_TYPE_WRITABLE_PAGETABLES;
use pinfold_emulate::pte_store::PteStore;
use pinfold_validator::{Error, Index, Kind, Swap, Vaddr};

/// Tries of the compare-and-exchange before the guest is resumed, to fault again.
const TRIES: usize = 16;

/// What happened to a store that faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Store {
    /// It is done, and the registers are updated.
    Done,
    /// It lost every race. No register changed: the guest faults again at once, after events and other
    /// work.
    Again,
    /// Deferred work of the domain used up the budget: as `Again`, but the vCPU yields.
    Preempted,
    /// It is no store to a live L1 table, or was refused: the fault is delivered.
    NotOurs,
}

/// Emulates the store that faulted at `address`, if it is one to a live L1 table. Its validation is
/// bounded; deferred work of the domain comes first, a part of it at each try, so the store is done
/// in the end.
pub fn try_emulate(vcpu: &mut Vcpu, address: u64) -> Store {
    if !vcpu.domain.assists.is_enabled(VMASST_TYPE_WRITABLE_PAGETABLES) {
        return Store::NotOurs;
    }
    let validator = validator();
    let Ok(leaf) = validator.walk(vcpu.kernel_root.frame(), Vaddr::new(address)) else {
        return Store::NotOurs;
    };
    let Some(table) = leaf.entry.target() else { return Store::NotOurs };
    let id = vcpu.domain.id;
    let is_own_l1 = validator
        .info(table)
        .is_some_and(|info| info.owner() == Some(id) && info.kind() == Kind::L1);
    if leaf.entry.is_writable() || !is_own_l1 {
        return Store::NotOurs;
    }
    let bytes = emulation::fetch(vcpu);
    let Ok(store) = PteStore::decode(&bytes, &vcpu.file.regs, emulation::bases(vcpu)) else {
        return Store::NotOurs;
    };
    // Another vCPU may have changed the code since the fault: then it is another instruction.
    if store.address() != address {
        return Store::NotOurs;
    }
    let index = Index::new((store.entry_address() % 4096 / 8) as usize);
    for _ in 0..TRIES {
        // SAFETY: the walk found the frame in the frame table as RAM. It may be something else by
        // now: what is read is a guess, which the update compares.
        let old = unsafe { direct_map::entry(table, index) }.load(Ordering::Acquire);
        let result = store.evaluate(old, &vcpu.file.regs);
        let swapped = vcpu
            .work
            .attempt(|budget| validator.update_l1_cas(id, table, index, old, result.entry, budget));
        match swapped {
            Ok(Swap::Done) => {
                result.effects.apply(&mut vcpu.file.regs);
                vcpu.domain.stats.emulated_stores.bump();
                return Store::Done;
            }
            Ok(Swap::Differs(_)) => {}
            Err(Error::Preempted) => return Store::Preempted,
            Err(stop @ Error::Refused(_)) => {
                report::stopped(vcpu, &stop);
                return Store::NotOurs;
            }
        }
    }
    Store::Again
}
