//! Memory types of frames: every frame has one.
//!
//! Two mappings of a frame with different memory types make it incoherent: a line that was cached
//! through one is written back over what was written past the caches through the other. Such a
//! mapping is refused like a writable mapping of a page table, and reported in the same way.
//!
//! The hypervisor is concerned itself. It sees every frame through a write-back view of its own, so a
//! guest that writes past the caches could have it validate a table that is not the one in memory
//! (XSA-402). Hence `INV-CACHE` and `INV-COHERENT`: a frame that was mapped with another type is read
//! only after it was unmapped everywhere, and the TLBs and then the caches were flushed of it.
//!
//! Only L1 entries choose a memory type. Above, the flags are refused, as on Xen, and roots are loaded
//! without them, so that page tables are always walked write-back.

use core::fmt;
use pinfold_abi::mmu::{EntryFlags, MemoryType};

/// The flags of an L1 entry that choose a memory type.
pub(crate) const MEMTYPE_FLAGS: u64 = MemoryType::FLAGS.bits();

/// Memory type of an L1 entry.
pub(crate) const fn memtype_of(raw: u64) -> MemoryType {
    MemoryType::of(EntryFlags::from_bits_truncate(raw))
}

/// Memory type of a frame: of all its mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameMemType {
    /// All mappings have this one.
    Uniform(MemoryType),
    /// They have several: only with [`CachePolicy::Report`].
    Mixed,
    /// A CPU is changing it.
    Changing,
}

impl FrameMemType {
    pub(crate) const fn bits(self) -> u64 {
        match self {
            FrameMemType::Uniform(kind) => kind as u64,
            FrameMemType::Mixed => 6,
            FrameMemType::Changing => 7,
        }
    }

    pub(crate) const fn from_bits(bits: u64) -> FrameMemType {
        match bits & 7 {
            0 => FrameMemType::Uniform(MemoryType::WriteBack),
            1 => FrameMemType::Uniform(MemoryType::WriteThrough),
            2 => FrameMemType::Uniform(MemoryType::UncachedMinus),
            3 => FrameMemType::Uniform(MemoryType::Uncached),
            4 => FrameMemType::Uniform(MemoryType::WriteCombining),
            5 => FrameMemType::Uniform(MemoryType::WriteProtected),
            6 => FrameMemType::Mixed,
            _ => FrameMemType::Changing,
        }
    }

    /// Whether it is write-back, the default.
    pub const fn is_write_back(self) -> bool {
        matches!(self, FrameMemType::Uniform(MemoryType::WriteBack))
    }

    /// Short name for the log.
    pub const fn name(self) -> &'static str {
        match self {
            FrameMemType::Uniform(kind) => kind.name(),
            FrameMemType::Mixed => "mixed",
            FrameMemType::Changing => "changing",
        }
    }
}

impl fmt::Display for FrameMemType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is done about a mapping whose memory type differs from that of the frame's others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CachePolicy {
    /// It is refused.
    #[default]
    Strict,
    /// It is reported ([`Platform::report_cache_alias`](crate::Platform::report_cache_alias)) and done,
    /// unless the hypervisor uses the frame itself.
    Report,
}
