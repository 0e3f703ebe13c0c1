//! How memory is cached: every frame in one way.
//!
//! Two mappings of a frame that are cached differently break memory, not always, and not where one
//! looks: a line that was cached through one is written back over what was written past the caches
//! through the other. It is the same disease as a stray writable mapping of a page table, and is
//! told of in the same way.
//!
//! And it is the hypervisor's business too. It sees every frame through a write-back view of its
//! own, so a guest that can write past the caches can have it validate a table that is not the one
//! in memory (XSA-402). Hence `INV-CACHE` and `INV-COHERENT`: a frame that was mapped in another
//! way is looked at only after it was unmapped everywhere, and the TLBs and then the caches were
//! flushed of it.
//!
//! Only L1 entries choose: above, the flags are refused, as on Xen, and roots are loaded without
//! them, so that page tables are always walked write-back.

use core::fmt;
use pinfold_abi::mmu::{EntryFlags, MemoryType};

/// The flags of an L1 entry that choose a memory type.
pub(crate) const MEMTYPE_FLAGS: u64 = MemoryType::FLAGS.bits();

/// The type of an L1 entry's mapping.
pub(crate) const fn memtype_of(raw: u64) -> MemoryType {
    MemoryType::of(EntryFlags::from_bits_truncate(raw))
}

/// How the mappings of a frame are cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameMemType {
    /// All in this way.
    Uniform(MemoryType),
    /// In several: only where the policy bears that.
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

    /// Whether all is as it is by default.
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

/// What is done about a mapping that is cached otherwise than the frame's others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CachePolicy {
    /// It is refused.
    #[default]
    Strict,
    /// It is told of ([`Platform::report_cache_alias`]), and done; unless the hypervisor uses the frame
    /// itself.
    Report,
}
