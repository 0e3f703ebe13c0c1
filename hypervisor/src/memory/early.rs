//! The early allocator: memory for the hypervisor's own structures before the frame table exists. It
//! allocates from the largest usable region, in ascending order, and never frees.

use pinfold_abi::layout::PAGE_SIZE;

/// A region of the memory map.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// End, exclusive.
    pub end: u64,
    /// Type.
    pub kind: RegionKind,
}

/// Type of a memory region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionKind {
    /// Free RAM.
    Usable,
    /// RAM that the boot loader has used: the hypervisor's image, the boot archive.
    BootLoader,
    /// Firmware memory, devices, or no memory.
    Other,
}

impl Region {
    /// Whether it is free RAM.
    pub fn is_usable(&self) -> bool {
        self.kind == RegionKind::Usable
    }
}

/// The early allocator: a bump pointer in one region.
pub struct EarlyFrames {
    start: u64,
    next: u64,
    end: u64,
}

impl EarlyFrames {
    /// An allocator for the largest usable region.
    ///
    /// # Panics
    /// If there is no usable memory.
    ///
    /// # Safety
    /// `regions` is the memory map; nothing else uses its usable regions as long as this allocator does;
    /// and they are mapped at the address of the direct map.
    pub unsafe fn new(regions: &[Region]) -> EarlyFrames {
        let largest = regions
            .iter()
            .filter(|r| r.is_usable())
            .max_by_key(|r| r.end - r.start)
            .expect("the machine has usable memory");
        let start = largest.start.next_multiple_of(PAGE_SIZE);
        EarlyFrames { start, next: start, end: largest.end & !(PAGE_SIZE - 1) }
    }

    /// Allocates `bytes` (rounded up to pages), aligned and zeroed. Returns the physical address.
    ///
    /// # Panics
    /// If the machine has too little memory for the hypervisor's own structures.
    pub fn alloc(&mut self, bytes: u64, align: u64) -> u64 {
        let address = self.next.next_multiple_of(align);
        let end = address + bytes.next_multiple_of(PAGE_SIZE);
        assert!(end <= self.end, "too little memory for the hypervisor's own structures");
        self.next = end;
        let target = crate::memory::direct_map::address(address) as *mut u8;
        // SAFETY: the range is free RAM that was not allocated before. It is mapped by the direct map,
        // and before that by the boot loader at the same address.
        unsafe { core::ptr::write_bytes(target, 0, (end - address) as usize) };
        address
    }

    /// Whether a physical address has been allocated, or skipped for alignment.
    pub fn has_allocated(&self, address: u64) -> bool {
        (self.start..self.next).contains(&address)
    }

    /// Bytes allocated.
    pub fn allocated_bytes(&self) -> u64 {
        self.next - self.start
    }
}
