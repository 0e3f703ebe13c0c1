//! The hypervisor's part of the GDT.
//!
//! Pages 0 to 13 of every vCPU's GDT are the guest's, page 14 is the CPU's and holds what
//! the ABI promises (flat ring-3 segments at 0xe023, 0xe02b, 0xe033) and what the hypervisor
//! itself runs on. Intel SDM vol. 3, 3.4.5 (descriptors) and 8.2.3 (TSS descriptor).

use core::cell::UnsafeCell;
use pinfold_abi::layout::{FIRST_RESERVED_GDT_BYTE, FIRST_RESERVED_GDT_PAGE};
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::{lgdt, load_tss};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::SegmentSelector;
use x86_64::{PrivilegeLevel, VirtAddr};

/// The hypervisor's code segment.
pub const HYPERVISOR_CS: u16 = FIRST_RESERVED_GDT_BYTE + 0x08;
/// The hypervisor's stack segment.
pub const HYPERVISOR_SS: u16 = FIRST_RESERVED_GDT_BYTE + 0x10;
const TSS: u16 = FIRST_RESERVED_GDT_BYTE + 0x40;
const LDT: u16 = FIRST_RESERVED_GDT_BYTE + 0x50;

/// Flat, present, accessed, 64-bit code, ring 0.
const CODE64_RING0: u64 = 0x00af_9b00_0000_ffff;
/// Flat, present, accessed, writable data, ring 0.
const DATA_RING0: u64 = 0x00cf_9300_0000_ffff;
/// Flat, present, accessed, 32-bit code, ring 3.
const CODE32_RING3: u64 = 0x00cf_fb00_0000_ffff;
/// Flat, present, accessed, writable data, ring 3.
const DATA_RING3: u64 = 0x00cf_f300_0000_ffff;
/// Flat, present, accessed, 64-bit code, ring 3.
const CODE64_RING3: u64 = 0x00af_fb00_0000_ffff;

/// Bytes from a GDT's linear base to the hypervisor's page in it.
pub const HYPERVISOR_PAGE_OFFSET: u64 = FIRST_RESERVED_GDT_PAGE as u64 * 4096;
/// Bytes of a whole GDT; the last page is never mapped with anything but zeros.
pub const GDT_BYTES: u64 = 0x1_0000;

/// Page 14 of the GDT.
#[repr(C, align(4096))]
pub struct HypervisorGdt {
    entries: [UnsafeCell<u64>; 512],
}

impl HypervisorGdt {
    /// Fills a zeroed page with all but TSS and LDT.
    pub(super) fn fill(&mut self) {
        for (index, descriptor) in [
            (1, CODE64_RING0),
            (2, DATA_RING0),
            (4, CODE32_RING3),
            (5, DATA_RING3),
            (6, CODE64_RING3),
        ] {
            *self.entries[index].get_mut() = descriptor;
        }
    }

    /// Address of the page.
    pub fn address(&self) -> VirtAddr {
        VirtAddr::from_ptr(&raw const self.entries)
    }

    fn describe(&self, selector: u16, kind: u64, base: VirtAddr, limit: u64) {
        let base = base.as_u64();
        let low = (limit & 0xffff)
            | (base & 0xff_ffff) << 16
            | kind << 40
            | (limit >> 16 & 0xf) << 48
            | (base >> 24 & 0xff) << 56;
        let index = usize::from(selector - FIRST_RESERVED_GDT_BYTE) / 8;
        // SAFETY: only this CPU writes its GDT page, and the CPU reads these entries only at
        // the loads that follow.
        unsafe {
            *self.entries[index].get() = low;
            *self.entries[index + 1].get() = base >> 32;
        }
    }

    /// Writes the TSS descriptor (available 64-bit TSS).
    pub(super) fn describe_tss(&self, tss: VirtAddr) {
        self.describe(TSS, 0x89, tss, 0x67);
    }

    /// Loads the LDT register: `entries` descriptors at `base`, none for 0.
    ///
    /// # Safety
    /// The address range belongs to the running vCPU's LDT window.
    pub unsafe fn load_ldt(&self, base: VirtAddr, entries: u32) {
        let selector = if entries == 0 {
            0
        } else {
            self.describe(LDT, 0x82, base, u64::from(entries) * 8 - 1);
            LDT
        };
        // SAFETY: the selector is null or names the LDT descriptor just written.
        unsafe {
            core::arch::asm!("lldt {0:x}", in(reg) selector, options(nostack, preserves_flags))
        };
    }
}

/// Loads the GDT register.
///
/// # Safety
/// Page 14 of the 64 KiB at `base` is the calling CPU's page, and it stays mapped there.
pub unsafe fn load(base: VirtAddr) {
    let pointer = DescriptorTablePointer { limit: (GDT_BYTES - 1) as u16, base };
    // SAFETY: as the caller vouches.
    unsafe { lgdt(&pointer) };
}

/// Loads the segment registers and the task register from a GDT just loaded for the first time.
///
/// # Safety
/// [`load`] was done and the TSS described; once per CPU.
pub unsafe fn load_segments() {
    let cs = SegmentSelector::new(HYPERVISOR_CS / 8, PrivilegeLevel::Ring0);
    let ss = SegmentSelector::new(HYPERVISOR_SS / 8, PrivilegeLevel::Ring0);
    let null = SegmentSelector::NULL;
    // SAFETY: the selectors name the flat descriptors of this GDT; null is fine for data in 64-bit
    // mode.
    unsafe {
        CS::set_reg(cs);
        SS::set_reg(ss);
        DS::set_reg(null);
        ES::set_reg(null);
        load_tss(SegmentSelector::new(TSS / 8, PrivilegeLevel::Ring0));
    }
}
