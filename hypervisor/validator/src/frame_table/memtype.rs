//! How a frame's mappings are cached: transitions of three bits of the reference word.
//!
//! They lie beside the count that they depend on, so that one exchange answers both: is the frame
//! mapped, and how. Whoever changes them goes through [`Caching::Changing`], in which one CPU has
//! the three bits to itself (others may still drop references): there is something to do on the way.

use super::FrameEntry;
use super::kind::{Kind, State};
use super::refs::RefFailure;
use super::word::{CACHING, CACHING_SHIFT, ONE_REF, REF_COUNT, RefWord, SHARED, TypeWord};
use crate::frame::DomId;
use crate::memtype::Caching;
use crate::sync::Ordering;
use pinfold_abi::mmu::MemoryType;

/// How a reference was had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Claimed {
    /// The frame is cached so.
    AsWanted,
    /// Nothing but the allocation held it, and it is cached so no more or not yet: the caller must
    /// flush TLBs, then the caches, and call [`FrameEntry::settle_caching`].
    Changing,
}

const fn with_caching(word: u64, caching: Caching) -> u64 {
    word & !CACHING | caching.bits() << CACHING_SHIFT
}

impl FrameEntry {
    /// Takes a general reference of a frame that the domain owns or that is shared with it, for a
    /// use that is cached in one way.
    ///
    /// A frame is cached in another way only after its last mapping went (`INV-CACHE`), which is
    /// when the allocation alone is left: every mapping, every type, every hold of the
    /// hypervisor's is one more. Acquire pairs with the release of `put`: what those holders did
    /// is over, and their entries are gone, before the TLBs are flushed.
    pub(crate) fn get_as(&self, dom: DomId, wanted: MemoryType) -> Result<Claimed, RefFailure> {
        self.get_with(dom, |word| match RefWord(word).caching() {
            Caching::Changing => Err(RefFailure::Contended),
            Caching::As(seen) if seen == wanted => Ok((word, Claimed::AsWanted)),
            _ if word & REF_COUNT == ONE_REF && word & SHARED == 0 => {
                Ok((with_caching(word, Caching::Changing), Claimed::Changing))
            }
            seen => Err(RefFailure::Differs(seen)),
        })
    }

    /// Takes a general reference all the same, of a frame that has mappings which are cached
    /// otherwise: it is mixed then. Not if the hypervisor reads or writes it, as a table, as a
    /// descriptor page or as one that it shares.
    ///
    /// The type is looked at with the caching bits in hand, and who makes the frame a table looks
    /// at them with the type in hand ([`FrameEntry::caching_of_typed`]). Both of these are exchanges
    /// of the reference word, so one comes after the other: if theirs does, they see our bits, and
    /// if ours does, it acquires what they released, their type.
    pub(crate) fn get_mixed(&self, dom: DomId) -> Result<(), RefFailure> {
        let seen = self.get_with(dom, |word| match RefWord(word).caching() {
            Caching::Changing => Err(RefFailure::Contended),
            seen if word & SHARED != 0 => Err(RefFailure::Differs(seen)),
            seen => Ok((with_caching(word, Caching::Changing), seen)),
        })?;
        let types: TypeWord = self.type_word();
        let by_hypervisor = !matches!(types.kind(), Kind::None | Kind::Writable);
        if by_hypervisor && types.state() != State::Idle {
            self.settle_caching(seen);
            self.put();
            return Err(RefFailure::Differs(seen));
        }
        self.settle_caching(Caching::Mixed);
        Ok(())
    }

    /// Ends [`Caching::Changing`]. Only the three bits change: others may drop references
    /// meanwhile. Release: who finds the frame cached so, the flushes were done.
    pub(crate) fn settle_caching(&self, caching: Caching) {
        let flip = (Caching::Changing.bits() ^ caching.bits()) << CACHING_SHIFT;
        let before = self.refs.fetch_xor(flip, Ordering::AcqRel);
        debug_assert_eq!(RefWord(before).caching(), Caching::Changing);
    }

    /// How the frame is cached, asked by who has just entered its type. An exchange that changes
    /// nothing: [`FrameEntry::get_mixed`] says why.
    pub(crate) fn caching_of_typed(&self) -> Caching {
        RefWord(self.refs.fetch_or(0, Ordering::AcqRel)).caching()
    }
}
