//! Page frames and mappings.
#![expect(unsafe_code, reason = "page tables, and new frames")]

use crate::entry::IDENTITY_MAPPED;
use crate::pvh::Machine;
use core::ops::Range;
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, Page, PageSize, PageTableFlags, PhysFrame, Size2MiB,
    Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

unsafe extern "C" {
    /// The end of the loader, from the linker script.
    static pinfold_loader_end: u8;
}

/// Hands out frames above the loader, in ascending order.
pub(crate) struct Frames {
    /// What the loader uses: itself, and the frames it has handed out.
    used: Range<u64>,
    limit: u64,
}

impl Frames {
    /// An allocator for the RAM between the loader and the module.
    pub(crate) fn new(machine: &Machine) -> Frames {
        /// Where the loader is linked.
        const LOADER: u64 = 0x10_0000;
        let end = (&raw const pinfold_loader_end) as u64;
        let around = |region: &crate::pvh::Region| {
            region.ram && (region.start..region.end).contains(&LOADER) && region.end > end
        };
        let region = machine.regions().find(around).expect("the loader lies in RAM");
        let (module, _) = machine.module;
        let limit = if module > end { region.end.min(module) } else { region.end };
        Frames { used: LOADER..end, limit: limit.min(IDENTITY_MAPPED) }
    }

    /// What the loader uses: itself, and the frames it has handed out.
    pub(crate) fn used(&self) -> Range<u64> {
        self.used.clone()
    }

    /// Hands out frames for so many bytes, zeroed and contiguous.
    pub(crate) fn take(&mut self, bytes: u64) -> &'static mut [u8] {
        let start = self.used.end;
        let bytes = bytes.next_multiple_of(Size4KiB::SIZE);
        assert!(bytes <= self.limit - start, "too little memory for {bytes} bytes");
        self.used.end += bytes;
        // SAFETY: the range is RAM, identity-mapped, outside of the loader and its module, and is
        // handed out once. Zeroed below, and any bytes are u8s.
        let taken = unsafe { core::slice::from_raw_parts_mut(start as *mut u8, bytes as usize) };
        taken.fill(0);
        taken
    }
}

// SAFETY: each frame is handed out once.
unsafe impl FrameAllocator<Size4KiB> for Frames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let frame = self.take(Size4KiB::SIZE).as_ptr() as u64;
        Some(PhysFrame::containing_address(PhysAddr::new(frame)))
    }
}

/// The mappings of the active tables, all of which are identity-mapped.
pub(crate) struct Mappings(OffsetPageTable<'static>);

impl Mappings {
    /// The active tables. To be called once.
    pub(crate) fn active() -> Mappings {
        let root = Cr3::read().0.start_address().as_u64() as *mut _;
        // SAFETY: the active root is identity-mapped, as are all tables below it (`entry` and
        // `Frames`), and nothing else refers to it.
        Mappings(unsafe { OffsetPageTable::new(&mut *root, VirtAddr::zero()) })
    }

    /// Maps so many bytes of memory at an address. Both addresses are page-aligned.
    pub(crate) fn map(
        &mut self,
        virt: u64,
        phys: u64,
        bytes: u64,
        flags: PageTableFlags,
        frames: &mut Frames,
    ) {
        for offset in (0..bytes).step_by(Size4KiB::SIZE as usize) {
            let page: Page = Page::containing_address(VirtAddr::new(virt + offset));
            let frame = PhysFrame::containing_address(PhysAddr::new(phys + offset));
            // SAFETY: the addresses lie in the upper half, which the loader doesn't use.
            let mapped = unsafe { self.0.map_to(page, frame, flags, frames) };
            mapped.expect("nothing is mapped there").flush();
        }
    }

    /// Maps all physical memory below `end` at an address, with large pages.
    pub(crate) fn map_physical_memory(&mut self, virt: u64, end: u64, frames: &mut Frames) {
        let flags = PageTableFlags::PRESENT | PageTableFlags::WRITABLE | PageTableFlags::NO_EXECUTE;
        for phys in (0..end).step_by(Size2MiB::SIZE as usize) {
            let page: Page<Size2MiB> = Page::containing_address(VirtAddr::new(virt + phys));
            let frame = PhysFrame::containing_address(PhysAddr::new(phys));
            // SAFETY: as above.
            let mapped = unsafe { self.0.map_to(page, frame, flags, frames) };
            mapped.expect("nothing is mapped there").flush();
        }
    }
}
