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

use crate::frame::Mfn;
use crate::frame_table::{Claimed, FrameEntry, Kind, RefFailure, RefWord};
use crate::operation::{Halt, Op};
use crate::platform::Platform;
use crate::refusal::{Cause, Operation, Place, Refusal};
use crate::validator::Validator;
use core::fmt;
use pinfold_abi::mmu::{EntryFlags, MemoryType};

/// The flags of an L1 entry that choose a memory type.
pub(crate) const CACHING_FLAGS: u64 = MemoryType::FLAGS.bits();

/// Changes of memory types that one call makes: each is a flush of the domain's CPUs and of a page
/// from the caches, tens of microseconds (`INV-BOUND`).
const CHANGES: u8 = 32;

/// The type of an L1 entry's mapping.
pub(crate) const fn type_of(raw: u64) -> MemoryType {
    MemoryType::of(EntryFlags::from_bits_truncate(raw))
}

/// How the mappings of a frame are cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Caching {
    /// All in this way.
    As(MemoryType),
    /// In several: only where the policy bears that.
    Mixed,
    /// A CPU is changing it.
    Changing,
}

impl Caching {
    pub(crate) const fn bits(self) -> u64 {
        match self {
            Caching::As(kind) => kind as u64,
            Caching::Mixed => 6,
            Caching::Changing => 7,
        }
    }

    pub(crate) const fn from_bits(bits: u64) -> Caching {
        match bits & 7 {
            0 => Caching::As(MemoryType::WriteBack),
            1 => Caching::As(MemoryType::WriteThrough),
            2 => Caching::As(MemoryType::UncachedMinus),
            3 => Caching::As(MemoryType::Uncached),
            4 => Caching::As(MemoryType::WriteCombining),
            5 => Caching::As(MemoryType::WriteProtected),
            6 => Caching::Mixed,
            _ => Caching::Changing,
        }
    }

    /// Whether all is as it is by default.
    pub const fn is_write_back(self) -> bool {
        matches!(self, Caching::As(MemoryType::WriteBack))
    }

    /// Short name for the log.
    pub const fn name(self) -> &'static str {
        match self {
            Caching::As(kind) => kind.name(),
            Caching::Mixed => "mixed",
            Caching::Changing => "changing",
        }
    }
}

impl fmt::Display for Caching {
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
    /// It is told of ([`Platform::cache_alias`]), and done; unless the hypervisor uses the frame
    /// itself.
    Report,
}

impl<P: Platform> Validator<'_, P> {
    /// Takes a general reference of a frame, for a use that is cached in one way. `Some`: it is
    /// cached in others too, which the policy bears, if it is told of
    /// ([`Validator::tell_of_mixing`]), for a guest's own entries: what the hypervisor holds on its
    /// own account is never one of several. `by_entry`: it is for an entry.
    #[inline]
    pub(crate) fn claim(
        &self,
        op: &mut Op<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        wanted: MemoryType,
        kind: Option<Kind>,
        by_entry: bool,
    ) -> Result<Option<Caching>, Halt> {
        if op.type_changes == CHANGES {
            // It goes on where it was when it is asked again.
            return Err(Halt::Preempted);
        }
        match frame.get_as(op.dom, wanted) {
            Ok(Claimed::AsWanted) => Ok(None),
            Ok(Claimed::Changing) => {
                op.type_changes += 1;
                self.forget_caching(op, mfn, frame.ref_word());
                frame.settle_caching(Caching::As(wanted));
                Ok(None)
            }
            Err(RefFailure::Differs(present)) if by_entry && self.bears_mixing(op, kind) => {
                self.claim_mixed(op, mfn, frame, wanted, kind, present)
            }
            Err(failure) => Err(self.not_claimed(op, mfn, frame, wanted, kind, failure)),
        }
    }

    /// Goes on where a frame is not cached as it is wanted, and the policy bears that.
    #[cold]
    #[inline(never)]
    fn claim_mixed(
        &self,
        op: &mut Op<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        wanted: MemoryType,
        kind: Option<Kind>,
        present: Caching,
    ) -> Result<Option<Caching>, Halt> {
        if op.has_told {
            // One a call, since each costs a search: the next one when it is asked again.
            return Err(Halt::Preempted);
        }
        match frame.get_mixed(op.dom) {
            Ok(()) => Ok(Some(present)),
            Err(failure) => Err(self.not_claimed(op, mfn, frame, wanted, kind, failure)),
        }
    }

    /// Drops what is remembered of a frame that was cached in one way and will be in another, by
    /// the TLBs first and the caches after (`INV-CACHE`). Nobody can map it meanwhile.
    #[cold]
    #[inline(never)]
    pub(crate) fn forget_caching(&self, op: &Op<'_>, mfn: Mfn, seen: RefWord) {
        let cpus = if seen.is_lent() {
            self.platform.all_cpus()
        } else {
            self.platform.dirty_cpus(op.dom)
        };
        // Read-only mappings leave no stamp when they go, so it is as if the last one went now.
        self.flush_behind(self.clock.now(), cpus);
        self.platform.flush_cache(mfn);
    }

    /// Whether the frame may be mixed for this. What another domain lent may not: the policy of a
    /// domain is about its own memory.
    fn bears_mixing(&self, op: &Op<'_>, kind: Option<Kind>) -> bool {
        matches!(kind, None | Some(Kind::Writable))
            && op.operation != Operation::MapGranted
            && self.platform.cache_policy(op.dom) == CachePolicy::Report
    }

    #[cold]
    fn not_claimed(
        &self,
        op: &mut Op<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        wanted: MemoryType,
        kind: Option<Kind>,
        failure: RefFailure,
    ) -> Halt {
        let cause = match failure {
            RefFailure::Contended => return Halt::Preempted,
            RefFailure::Overflow => Cause::CountOverflow,
            RefFailure::NotOwned => Cause::NotOwned,
            RefFailure::Differs(present) => Cause::CacheAlias { wanted, present },
        };
        op.refuse(cause, mfn, Some(frame), kind)
    }

    /// Tells of a use that was had although the frame is cached otherwise.
    #[cold]
    pub(crate) fn tell_of_mixing(
        &self,
        op: &mut Op<'_>,
        mfn: Mfn,
        frame: &FrameEntry,
        cause: Cause,
        kind: Option<Kind>,
        place: Option<Place>,
    ) {
        op.has_told = true;
        let refusal = Refusal { place, ..op.telling(cause, mfn, Some(frame), kind) };
        self.platform.cache_alias(&refusal);
    }
}
