//! TLB flushes on a guest's request. A vCPU that isn't running needs none: loading its root flushes.

use crate::arch::ipi;
use crate::arch::percpu::cpu_number;
use crate::domain::VcpuSlot;
use crate::domain::vcpu::Vcpu;
use crate::domain::work::cost;
use crate::memory::guest::{GuestPtr, is_guest_address};
use crate::memory::{platform, tlb};
use pinfold_abi::errno::Errno;
use pinfold_abi::mmu::*;
use pinfold_validator::CpuSet;

/// The vCPUs that a flush is for.
pub enum Target {
    /// The caller.
    Local,
    /// All vCPUs of the domain.
    All,
    /// Those in the bitmap at this address.
    Mask(u64),
}

impl Target {
    /// The CPUs on which these vCPUs run. A vCPU that moves meanwhile loads a root there, which
    /// flushes.
    fn cpus(&self, vcpu: &Vcpu) -> Result<CpuSet, Errno> {
        let slots = &vcpu.domain.slots;
        match self {
            Target::Local => Ok(CpuSet::of(cpu_number())),
            Target::All => Ok(platform::dirty_cpus(vcpu.domain.id)),
            Target::Mask(address) => {
                // One byte for eight vCPUs; bits beyond the last vCPU are ignored.
                let mut cpus = CpuSet::EMPTY;
                for eight in 0..slots.len().div_ceil(8) {
                    let byte = GuestPtr::<u8>::new(*address).read_at(eight as u64)?;
                    let named = |slot: &&VcpuSlot| byte & 1 << (slot.id % 8) != 0;
                    for slot in slots.iter().skip(eight * 8).take(8).filter(named) {
                        cpus = cpus.union(slot.runs_on());
                    }
                }
                Ok(cpus)
            }
        }
    }
}

/// Flushes all translations of the guest.
pub fn all(vcpu: &Vcpu, target: &Target) -> Result<(), Errno> {
    let cpus = target.cpus(vcpu)?;
    vcpu.domain.stats.guest_flushes.bump();
    vcpu.work.charge(cost::FLUSH);
    ipi::flush(cpus);
    Ok(())
}

/// Flushes one translation. An address that isn't the guest's has none.
pub fn page(vcpu: &Vcpu, target: &Target, address: u64) -> Result<(), Errno> {
    let cpus = target.cpus(vcpu)?;
    if !is_guest_address(address) {
        return Ok(());
    }
    vcpu.domain.stats.guest_flushes.bump();
    let own = cpu_number();
    if cpus.contains(own) {
        match &vcpu.container {
            Some(guest) => guest.invalidate_page(address),
            None => tlb::flush_page_local(address),
        }
    }
    let others = cpus.without(own);
    if !others.is_empty() {
        // They flush everything: a request carries no address.
        vcpu.work.charge(cost::FLUSH);
        ipi::flush(others);
    }
    Ok(())
}

/// The flush that the flags of `update_va_mapping` request.
pub fn by_flags(vcpu: &Vcpu, flags: u64, address: u64) -> Result<(), Errno> {
    let target = match flags & !UVMF_FLUSHTYPE_MASK {
        UVMF_LOCAL => Target::Local,
        UVMF_ALL => Target::All,
        mask => Target::Mask(mask),
    };
    match flags & UVMF_FLUSHTYPE_MASK {
        UVMF_TLB_FLUSH => all(vcpu, &target),
        UVMF_INVLPG => page(vcpu, &target, address),
        _ => Ok(()),
    }
}
