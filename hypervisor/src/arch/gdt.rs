//! The hypervisor's page of the GDT.
//!
//! While a vCPU is loaded, pages 0 to 13 of the GDT belong to its guest. Page 14 belongs to the CPU:
//! it holds the flat ring-3 segments that the ABI promises (selectors 0xe023, 0xe02b, 0xe033), and
//! the hypervisor's own segments. Intel SDM vol. 3, 3.4.5 (descriptors) and 8.2.3 (TSS descriptor).

use core::cell::UnsafeCell;
use pinfold_abi::layout::{FIRST_RESERVED_GDT_BYTE, FIRST_RESERVED_GDT_PAGE, PAGE_SIZE};
use x86_64::instructions::segmentation::{CS, DS, ES, SS, Segment};
use x86_64::instructions::tables::{lgdt, load_tss};
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::{DescriptorFlags, SegmentSelector};
use x86_64::structures::tss::TaskStateSegment;
use x86_64::{PrivilegeLevel, VirtAddr};

/// The hypervisor's code segment.
pub const HYPERVISOR_CS: u16 = FIRST_RESERVED_GDT_BYTE + 0x08;
/// The hypervisor's stack segment.
pub const HYPERVISOR_SS: u16 = FIRST_RESERVED_GDT_BYTE + 0x10;
const TSS: u16 = FIRST_RESERVED_GDT_BYTE + 0x40;
const LDT: u16 = FIRST_RESERVED_GDT_BYTE + 0x50;

/// Type of a system descriptor with its present bit: LDT, and available 64-bit TSS (Intel SDM vol. 3,
/// table 3-2).
const PRESENT_LDT: u64 = 0x82;
const PRESENT_TSS: u64 = 0x89;
/// Limit of a TSS without an I/O bitmap.
const TSS_LIMIT: u64 = size_of::<TaskStateSegment>() as u64 - 1;

/// Offset of the hypervisor's page in a GDT, in bytes.
pub const HYPERVISOR_PAGE_OFFSET: u64 = FIRST_RESERVED_GDT_PAGE as u64 * PAGE_SIZE;
/// Size of a GDT in bytes. Its last page, 15, has no present descriptors.
pub const GDT_BYTES: u64 = 0x1_0000;

/// Page 14 of the GDT: the hypervisor's.
#[repr(C, align(4096))]
pub struct HypervisorGdt {
    entries: [UnsafeCell<u64>; PAGE_SIZE as usize / 8],
}

impl HypervisorGdt {
    /// Writes the flat segments into a zeroed page.
    pub(super) fn fill(&mut self) {
        for (index, descriptor) in [
            (1, DescriptorFlags::KERNEL_CODE64),
            (2, DescriptorFlags::KERNEL_DATA),
            (4, DescriptorFlags::USER_CODE32),
            (5, DescriptorFlags::USER_DATA),
            (6, DescriptorFlags::USER_CODE64),
        ] {
            *self.entries[index].get_mut() = descriptor.bits();
        }
    }

    /// Address of the page.
    pub fn address(&self) -> VirtAddr {
        VirtAddr::from_ptr(&raw const self.entries)
    }

    /// Writes a system descriptor, which takes two entries.
    fn write_system_descriptor(&self, selector: u16, kind: u64, base: VirtAddr, limit: u64) {
        let base = base.as_u64();
        let low = (limit & 0xffff)
            | (base & 0xff_ffff) << 16
            | kind << 40
            | (limit >> 16 & 0xf) << 48
            | (base >> 24 & 0xff) << 56;
        let index = usize::from(selector - FIRST_RESERVED_GDT_BYTE) / 8;
        // SAFETY: only its own CPU writes the page, and reads these two entries only by the `ltr` or
        // `lldt` that follows.
        unsafe {
            *self.entries[index].get() = low;
            *self.entries[index + 1].get() = base >> 32;
        }
    }

    /// Writes the TSS descriptor.
    pub(super) fn write_tss_descriptor(&self, tss: VirtAddr) {
        self.write_system_descriptor(TSS, PRESENT_TSS, tss, TSS_LIMIT);
    }

    /// Loads the LDT register with `entries` descriptors at `base`, or with no LDT if there are none.
    ///
    /// # Safety
    /// The range is in the per-domain mappings of the vCPU that runs.
    pub unsafe fn load_ldt(&self, base: VirtAddr, entries: u32) {
        let selector = if entries == 0 {
            0
        } else {
            self.write_system_descriptor(LDT, PRESENT_LDT, base, u64::from(entries) * 8 - 1);
            LDT
        };
        // SAFETY: the selector is null or that of the LDT descriptor just written.
        unsafe {
            core::arch::asm!("lldt {0:x}", in(reg) selector, options(nostack, preserves_flags));
        };
    }
}

/// Loads the GDT register.
///
/// # Safety
/// Page 14 of the 64 KiB at `base` is the page of this CPU, and stays mapped there while this GDT is
/// loaded.
pub unsafe fn load(base: VirtAddr) {
    let pointer = DescriptorTablePointer { limit: (GDT_BYTES - 1) as u16, base };
    // SAFETY: the caller ensures it.
    unsafe { lgdt(&pointer) };
}

/// Loads the segment registers and the task register.
///
/// # Safety
/// Once per CPU, after [`load`]; its page of the GDT is filled and has the TSS descriptor.
pub unsafe fn load_segments() {
    let cs = SegmentSelector::new(HYPERVISOR_CS / 8, PrivilegeLevel::Ring0);
    let ss = SegmentSelector::new(HYPERVISOR_SS / 8, PrivilegeLevel::Ring0);
    let null = SegmentSelector::NULL;
    // SAFETY: CS, SS and TR get descriptors of that page; null is valid for DS and ES in 64-bit mode.
    unsafe {
        CS::set_reg(cs);
        SS::set_reg(ss);
        DS::set_reg(null);
        ES::set_reg(null);
        load_tss(SegmentSelector::new(TSS / 8, PrivilegeLevel::Ring0));
    }
}
