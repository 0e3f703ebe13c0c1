//! How a frame's mappings are cached: transitions of three bits of the reference word.
//!
//! They lie beside the count that they depend on, so that one exchange answers both: is the frame
//! mapped, and how. Whoever changes them goes through [`FrameMemType::Changing`], in which one CPU has
//! the three bits to itself (others may still drop references): there is something to do on the way.

use super::kind::{Kind, State};
use super::record::FrameEntry;
use super::refs::RefError;
use super::word::{MEMTYPE, MEMTYPE_SHIFT, ONE_REF, REF_COUNT, RefWord, SHARED, TypeWord};
use crate::ids::DomId;
use crate::memtype::FrameMemType;
use crate::sync::Ordering;
use pinfold_abi::mmu::MemoryType;

/// How a reference was had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Reservation {
    /// The frame is cached so.
    AsWanted,
    /// Nothing but the allocation held it, and it is cached so no more or not yet: the caller must
    /// flush TLBs, then the caches, and call [`FrameEntry::set_memtype`].
    Changing,
}

const fn with_memtype(word: u64, caching: FrameMemType) -> u64 {
    word & !MEMTYPE | caching.bits() << MEMTYPE_SHIFT
}

impl FrameEntry {
    /// Takes a general reference of a frame that the domain owns or that is shared with it, for a
    /// use that is cached in one way.
    ///
    /// A frame is cached in another way only after its last mapping went (`INV-CACHE`), which is
    /// when the allocation alone is left: every mapping, every type, every hold of the
    /// hypervisor's is one more. Acquire pairs with the release of `put`: what those holders did
    /// is over, and their entries are gone, before the TLBs are flushed.
    pub(crate) fn get_with_memtype(
        &self,
        dom: DomId,
        wanted: MemoryType,
    ) -> Result<Reservation, RefError> {
        self.get_with(dom, |word| match RefWord(word).memtype() {
            FrameMemType::Changing => Err(RefError::Contended),
            FrameMemType::Uniform(seen) if seen == wanted => Ok((word, Reservation::AsWanted)),
            _ if word & REF_COUNT == ONE_REF && word & SHARED == 0 => {
                Ok((with_memtype(word, FrameMemType::Changing), Reservation::Changing))
            }
            seen => Err(RefError::OtherMemType(seen)),
        })
    }

    /// Takes a general reference all the same, of a frame that has mappings which are cached
    /// otherwise: it is mixed then. Not if the hypervisor reads or writes it, as a table, as a
    /// descriptor page or as one that it shares.
    ///
    /// The type is looked at with the caching bits in hand, and who makes the frame a table looks
    /// at them with the type in hand ([`FrameEntry::memtype_of_typed`]). Both of these are exchanges
    /// of the reference word, so one comes after the other: if theirs does, they see our bits, and
    /// if ours does, it acquires what they released, their type.
    pub(crate) fn get_mixed(&self, dom: DomId) -> Result<(), RefError> {
        let seen = self.get_with(dom, |word| match RefWord(word).memtype() {
            FrameMemType::Changing => Err(RefError::Contended),
            seen if word & SHARED != 0 => Err(RefError::OtherMemType(seen)),
            seen => Ok((with_memtype(word, FrameMemType::Changing), seen)),
        })?;
        let types: TypeWord = self.type_word();
        let by_hypervisor = !matches!(types.kind(), Kind::None | Kind::Writable);
        if by_hypervisor && types.state() != State::Idle {
            self.set_memtype(seen);
            self.put();
            return Err(RefError::OtherMemType(seen));
        }
        self.set_memtype(FrameMemType::Mixed);
        Ok(())
    }

    /// Ends [`FrameMemType::Changing`]. Only the three bits change: others may drop references
    /// meanwhile. Release: who finds the frame cached so, the flushes were done.
    pub(crate) fn set_memtype(&self, caching: FrameMemType) {
        let flip = (FrameMemType::Changing.bits() ^ caching.bits()) << MEMTYPE_SHIFT;
        let before = self.refs.fetch_xor(flip, Ordering::AcqRel);
        debug_assert_eq!(RefWord(before).memtype(), FrameMemType::Changing);
    }

    /// How the frame is cached, asked by who has just entered its type. An exchange that changes
    /// nothing: [`FrameEntry::get_mixed`] says why.
    pub(crate) fn memtype_of_typed(&self) -> FrameMemType {
        RefWord(self.refs.fetch_or(0, Ordering::AcqRel)).memtype()
    }
}
