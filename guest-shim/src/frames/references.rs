//! Which devices use which frames.

use super::FrameSet;
use crate::addr::Pfn;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// References to frames that are used without a mapping that the kernel could clear, as by a
/// device. A frame is freed when its owner has freed it and the last reference is gone.
#[derive(Debug, Default)]
pub(crate) struct References {
    /// The name of each holder, once for each reference.
    holders: BTreeMap<Pfn, Vec<&'static str>>,
    /// Frames that their owner freed while there were references.
    deferred: BTreeSet<Pfn>,
}

impl References {
    /// Takes a reference.
    pub(crate) fn pin(&mut self, pfn: Pfn, holder: &'static str) {
        self.holders.entry(pfn).or_default().push(holder);
    }

    /// Drops a reference. Returns whether the frame must be freed now: it was the last reference,
    /// and the owner has freed the frame.
    ///
    /// # Panics
    ///
    /// If the holder has no reference.
    pub(crate) fn unpin(&mut self, pfn: Pfn, holder: &'static str) -> bool {
        let holders = self.holders.get_mut(&pfn);
        let dropped = holders.and_then(|holders| {
            let index = holders.iter().position(|&other| other == holder)?;
            holders.swap_remove(index);
            Some(holders.is_empty())
        });
        let Some(last) = dropped else { panic!("{holder} does not hold frame {pfn}") };
        if last {
            self.holders.remove(&pfn);
        }
        last && self.deferred.remove(&pfn)
    }

    /// Defers the free of a frame that has references. Returns whether it has any.
    ///
    /// # Panics
    ///
    /// If the frame was freed already.
    pub(crate) fn defer_free(&mut self, pfn: Pfn) -> bool {
        let pinned = self.holders.contains_key(&pfn);
        if pinned {
            assert!(self.deferred.insert(pfn), "frame {pfn} was freed already");
        }
        pinned
    }

    /// The first of these frames that has a reference, and a holder of it.
    pub(crate) fn first_of(&self, frames: &FrameSet) -> Option<(Pfn, &'static str)> {
        if self.holders.is_empty() {
            return None;
        }
        frames.iter().find_map(|pfn| Some((pfn, *self.holders.get(&pfn)?.first()?)))
    }

    /// The holders of a frame, once for each reference.
    pub(crate) fn holders(&self, pfn: Pfn) -> &[&'static str] {
        self.holders.get(&pfn).map_or(&[], Vec::as_slice)
    }

    /// Frames whose free is deferred.
    pub(crate) fn deferred(&self) -> usize {
        self.deferred.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_free_when_the_last_reference_goes() {
        let mut references = References::default();
        assert!(!references.defer_free(Pfn(1)), "nobody holds it");
        for holder in ["disk", "net", "disk"] {
            references.pin(Pfn(1), holder);
        }
        assert!(!references.unpin(Pfn(1), "disk"));
        assert!(references.defer_free(Pfn(1)));
        assert!(!references.unpin(Pfn(1), "net"));
        assert_eq!(
            references.first_of(&[Pfn(0), Pfn(1)].into_iter().collect()),
            Some((Pfn(1), "disk"))
        );
        assert!(references.unpin(Pfn(1), "disk"));
        references.pin(Pfn(1), "disk");
        assert!(!references.unpin(Pfn(1), "disk"), "it was not freed again");
    }

    #[test]
    #[should_panic(expected = "net does not hold frame 0x1")]
    fn dropping_a_reference_that_was_not_taken_panics() {
        let mut references = References::default();
        references.pin(Pfn(1), "disk");
        references.unpin(Pfn(1), "net");
    }

    #[test]
    #[should_panic(expected = "frame 0x1 was freed already")]
    fn freeing_a_frame_twice_panics() {
        let mut references = References::default();
        references.pin(Pfn(1), "disk");
        references.defer_free(Pfn(1));
        references.defer_free(Pfn(1));
    }
}
