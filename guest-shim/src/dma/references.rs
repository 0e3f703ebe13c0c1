//! Who holds which frame.

use crate::addr::Pfn;
use crate::mmu::{Error, Mmu};
use crate::per_frame::FrameSet;
use crate::platform::Platform;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// References of frames that somebody outside of the kernel uses.
#[derive(Debug, Default)]
pub(crate) struct References {
    /// The name of each holder, as often as it holds the frame.
    holders: BTreeMap<Pfn, Vec<&'static str>>,
    /// Frames that were freed while somebody held them.
    freed: BTreeSet<Pfn>,
}

impl References {
    fn take(&mut self, pfn: Pfn, holder: &'static str) {
        self.holders.entry(pfn).or_default().push(holder);
    }

    /// Drops one reference; whether the frame is free now.
    ///
    /// # Panics
    ///
    /// If there is none of this holder.
    fn drop(&mut self, pfn: Pfn, holder: &'static str) -> bool {
        let holders = self.holders.get_mut(&pfn);
        let held = holders.and_then(|holders| {
            let place = holders.iter().position(|&other| other == holder)?;
            holders.swap_remove(place);
            Some(holders.is_empty())
        });
        let Some(last) = held else { panic!("{holder} does not hold frame {pfn}") };
        if last {
            self.holders.remove(&pfn);
        }
        last && self.freed.remove(&pfn)
    }

    /// Who holds one of these frames, if anybody does.
    pub(crate) fn first_of(&self, frames: &FrameSet) -> Option<(Pfn, &'static str)> {
        if self.holders.is_empty() {
            return None;
        }
        frames.iter().find_map(|pfn| Some((pfn, *self.holders.get(&pfn)?.first()?)))
    }

    /// Notes that a frame was freed, if somebody holds it.
    ///
    /// # Panics
    ///
    /// If it was freed already.
    pub(crate) fn keep(&mut self, pfn: Pfn) -> bool {
        let held = self.holders.contains_key(&pfn);
        if held {
            assert!(self.freed.insert(pfn), "frame {pfn} was freed already");
        }
        held
    }
}

impl<P: Platform> Mmu<P> {
    /// Takes a reference of each frame.
    ///
    /// # Panics
    ///
    /// If a frame is none that was given out here.
    pub(super) fn hold(&mut self, frames: &[Pfn], holder: &'static str) {
        for &pfn in frames {
            assert!(self.frames.covers(pfn), "frame {pfn} is not for data");
            self.references.take(pfn, holder);
        }
    }

    /// Drops a reference of each frame; those that were freed meanwhile are free now.
    pub(super) fn unpin_frames(&mut self, frames: &[Pfn], holder: &'static str) {
        for &pfn in frames {
            if self.references.drop(pfn, holder) {
                self.free_frame(pfn);
            }
        }
    }

    /// Who holds a frame, once for each reference.
    pub fn holders(&self, pfn: Pfn) -> &[&'static str] {
        self.references.holders.get(&pfn).map_or(&[], Vec::as_slice)
    }

    /// Frames that were freed, and that somebody holds.
    pub fn frames_in_io(&self) -> usize {
        self.references.freed.len()
    }

    /// Refuses frames that somebody holds.
    pub(crate) fn refuse_pinned_for_io(&self, frames: &FrameSet) -> Result<(), Error> {
        let held = self.references.first_of(frames);
        held.map_or(Ok(()), |(frame, holder)| Err(Error::InIo { frame, holder }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_free_when_the_last_reference_goes() {
        let mut references = References::default();
        assert!(!references.keep(Pfn(1)), "nobody holds it");
        for holder in ["disk", "net", "disk"] {
            references.take(Pfn(1), holder);
        }
        assert!(!references.drop(Pfn(1), "disk"));
        assert!(references.keep(Pfn(1)));
        assert!(!references.drop(Pfn(1), "net"));
        assert_eq!(
            references.first_of(&[Pfn(0), Pfn(1)].into_iter().collect()),
            Some((Pfn(1), "disk"))
        );
        assert!(references.drop(Pfn(1), "disk"));
        references.take(Pfn(1), "disk");
        assert!(!references.drop(Pfn(1), "disk"), "it was not freed again");
    }

    #[test]
    #[should_panic(expected = "net does not hold frame 0x1")]
    fn who_holds_nothing_drops_nothing() {
        let mut references = References::default();
        references.take(Pfn(1), "disk");
        references.drop(Pfn(1), "net");
    }

    #[test]
    #[should_panic(expected = "frame 0x1 was freed already")]
    fn freeing_twice_is_noticed() {
        let mut references = References::default();
        references.take(Pfn(1), "disk");
        references.keep(Pfn(1));
        references.keep(Pfn(1));
    }
}
