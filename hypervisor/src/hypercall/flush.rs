//! Flushes that the guest asks for. A domain has one vCPU so far, so "all" and "multi" come down
//! to this processor; the bitmap is read and judged all the same.

use crate::domain::vcpu::Vcpu;
use crate::memory::guest::{GuestPtr, is_guest_address};
use crate::memory::tlb;
use pinfold_abi::errno::Errno;
use pinfold_abi::mmu::*;

/// Which vCPUs a flush is for.
pub enum Target {
    /// The caller.
    Local,
    /// All of the domain.
    All,
    /// Those in the bitmap at this address.
    Mask(u64),
}

impl Target {
    /// Whether the calling vCPU is meant.
    fn includes_caller(&self, vcpu: &Vcpu) -> Result<bool, Errno> {
        match self {
            Target::Local | Target::All => Ok(true),
            Target::Mask(address) => {
                let byte = GuestPtr::<u8>::new(*address).read_at(u64::from(vcpu.id / 8))?;
                Ok(byte & 1 << (vcpu.id % 8) != 0)
            }
        }
    }
}

/// Drops all translations of the guest.
pub fn all(vcpu: &Vcpu, target: &Target) -> Result<(), Errno> {
    if target.includes_caller(vcpu)? {
        vcpu.domain.stats.guest_flushes.bump();
        tlb::flush_local();
    }
    Ok(())
}

/// Drops one translation. An address that can't be the guest's has none.
pub fn page(vcpu: &Vcpu, target: &Target, address: u64) -> Result<(), Errno> {
    if target.includes_caller(vcpu)? && is_guest_address(address) {
        vcpu.domain.stats.guest_flushes.bump();
        tlb::flush_page_local(address);
    }
    Ok(())
}

/// The flush that `update_va_mapping`'s flags ask for.
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
