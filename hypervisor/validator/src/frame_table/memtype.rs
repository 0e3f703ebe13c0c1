//! The memory type of a frame's mappings: three bits of the reference word.
//!
//! They are in the same word as the count that they depend on, so that one exchange answers both: is
//! the frame mapped, and with which memory type. A change goes through [`FrameMemType::Changing`],
//! in which one CPU has the three bits to itself, to flush TLBs and caches. Others may still drop
//! references meanwhile.

use super::kind::{Kind, State};
use super::record::FrameEntry;
use super::refs::RefError;
use super::word::{MEMTYPE, MEMTYPE_SHIFT, ONE_REF, REF_COUNT, RefWord, SHARED, TypeWord};
use crate::ids::DomId;
use crate::memtype::FrameMemType;
use crate::sync::Ordering;
use pinfold_abi::mmu::MemoryType;

/// What [`FrameEntry::get_with_memtype`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Reservation {
    /// The frame has that memory type already.
    AsWanted,
    /// Only the allocation held it, and it had another memory type: the caller must flush TLBs, then
    /// the caches, and call [`FrameEntry::set_memtype`].
    Changing,
}

const fn with_memtype(word: u64, caching: FrameMemType) -> u64 {
    word & !MEMTYPE | caching.bits() << MEMTYPE_SHIFT
}

impl FrameEntry {
    /// Takes a general reference of a frame that the domain owns or that is shared with it, for a use
    /// with one memory type.
    ///
    /// The memory type changes only after the last mapping went (`INV-CACHE`), which is when the
    /// allocation is the only reference left: every mapping, every type and every reference of the
    /// hypervisor's is one more. Acquire pairs with the release of `put`: those holders are done,
    /// and their entries gone, before the TLBs are flushed.
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

    /// Takes a general reference of a frame although its mappings have another memory type: it is
    /// *mixed* from then on. Fails if the hypervisor itself reads or writes the frame: as a table, as
    /// a descriptor page, or as one that it shares.
    ///
    /// This CPU sets the memory type bits and then reads the type. A CPU that makes the frame a table
    /// sets the type and then reads these bits ([`FrameEntry::memtype_of_typed`]). Both do it with an
    /// exchange of the reference word, and one of these comes second: that CPU sees what the other
    /// one set.
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
    /// meanwhile. Release: a CPU that sees the new memory type sees the flushes done.
    pub(crate) fn set_memtype(&self, caching: FrameMemType) {
        let flip = (FrameMemType::Changing.bits() ^ caching.bits()) << MEMTYPE_SHIFT;
        let before = self.refs.fetch_xor(flip, Ordering::AcqRel);
        debug_assert_eq!(RefWord(before).memtype(), FrameMemType::Changing);
    }

    /// The memory type, for a CPU that has just begun a type. An exchange that changes nothing:
    /// [`FrameEntry::get_mixed`] says why.
    pub(crate) fn memtype_of_typed(&self) -> FrameMemType {
        RefWord(self.refs.fetch_or(0, Ordering::AcqRel)).memtype()
    }
}
