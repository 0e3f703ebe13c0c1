//! Frames for the hypervisor's own structures, before the frame table exists: taken in order from
//! the largest usable region, never given back.

/// A region of physical memory.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// One past the last byte.
    pub end: u64,
    /// What it is.
    pub kind: RegionKind,
}

/// What a region of physical memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionKind {
    /// RAM that nobody uses.
    Usable,
    /// RAM that the boot loader left in use: the hypervisor's image, the archive of guests.
    BootLoader,
    /// Firmware's, devices', or no memory at all.
    Other,
}

impl Region {
    /// Whether it is RAM that nobody uses.
    pub fn is_usable(&self) -> bool {
        self.kind == RegionKind::Usable
    }
}

/// The allocator: a bump pointer in one region.
pub struct EarlyFrames {
    start: u64,
    next: u64,
    end: u64,
}

impl EarlyFrames {
    /// Takes the largest usable region.
    ///
    /// # Panics
    /// If there is no usable memory.
    pub fn new(regions: &[Region]) -> EarlyFrames {
        let largest = regions
            .iter()
            .filter(|r| r.is_usable())
            .max_by_key(|r| r.end - r.start)
            .expect("the machine has usable memory");
        let start = largest.start.next_multiple_of(4096);
        EarlyFrames { start, next: start, end: largest.end & !4095 }
    }

    /// Takes `bytes` (rounded up to pages) at an alignment, zeroed. Returns the physical address.
    ///
    /// # Panics
    /// If the machine has too little memory for the hypervisor's own structures.
    pub fn alloc(&mut self, bytes: u64, align: u64) -> u64 {
        let address = self.next.next_multiple_of(align);
        let end = address + bytes.next_multiple_of(4096);
        assert!(end <= self.end, "too little memory for the hypervisor's own structures");
        self.next = end;
        let target = crate::memory::direct_map::address(address) as *mut u8;
        // SAFETY: the range is usable RAM that nobody has; the boot loader maps it where our own
        // direct map will.
        unsafe { core::ptr::write_bytes(target, 0, (end - address) as usize) };
        address
    }

    /// Whether a physical address was handed out (or lost to alignment).
    pub fn has_allocated(&self, address: u64) -> bool {
        (self.start..self.next).contains(&address)
    }

    /// Bytes handed out.
    pub fn allocated_bytes(&self) -> u64 {
        self.next - self.start
    }
}
