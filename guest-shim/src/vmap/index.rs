//! Dead mappings by frame, so that a pin can clear those of its own frames and no others.
//!
//! Each frame has a list, linked through an array with an element for each page of the range. An
//! operation takes time for the mappings that it is about, not for all that are dead.

use crate::addr::Pfn;
use crate::frames::FrameSet;
use alloc::vec::Vec;
use core::ops::Range;

/// In place of a page's number: the end of a list.
const END: u32 = u32::MAX;

/// A page of the range that may still map a frame.
#[derive(Clone, Copy, Debug)]
struct Link {
    frame: u32,
    /// The next page that maps the same frame, or [`END`].
    next: u32,
}

/// For each frame, the pages of the range that may still map it.
#[derive(Debug)]
pub(super) struct Index {
    /// By frame: the first page of its list, or [`END`].
    heads: Vec<u32>,
    /// By page. Allocated with the first entry: most policies do not use it.
    links: Vec<Option<Link>>,
    pages: u64,
    /// Pages in it.
    count: u64,
}

impl Index {
    /// For a range of so many pages.
    pub(super) fn new(pages: u64) -> Index {
        Index { heads: Vec::new(), links: Vec::new(), pages, count: 0 }
    }

    /// Pages in it.
    pub(super) fn len(&self) -> u64 {
        self.count
    }

    pub(super) fn add(&mut self, pfn: Pfn, page: u64) {
        let (frame, slot) = (pfn.0 as usize, page as usize);
        if frame >= self.heads.len() {
            self.heads.resize(frame + 1, END);
        }
        if self.links.is_empty() {
            self.links = alloc::vec![None; self.pages as usize];
        }
        debug_assert!(self.links[slot].is_none(), "page {page} is dead already");
        self.links[slot] = Some(Link { frame: frame as u32, next: self.heads[frame] });
        self.heads[frame] = page as u32;
        self.count += 1;
    }

    fn head(&self, pfn: Pfn) -> u32 {
        self.heads.get(pfn.0 as usize).copied().unwrap_or(END)
    }

    fn link(&self, page: u64) -> Option<Link> {
        *self.links.get(page as usize)?
    }

    pub(super) fn contains(&self, pfn: Pfn) -> bool {
        self.head(pfn) != END
    }

    fn list(&self, pfn: Pfn) -> impl Iterator<Item = u64> {
        let mut at = self.head(pfn);
        core::iter::from_fn(move || {
            let page = u64::from(at);
            at = self.link(page)?.next;
            Some(page)
        })
    }

    /// The pages that may map one of these frames, in ascending order.
    pub(super) fn of(&self, frames: &FrameSet) -> Vec<u64> {
        let mut pages: Vec<u64> = frames.iter().flat_map(|pfn| self.list(pfn)).collect();
        pages.sort_unstable();
        pages
    }

    /// The pages of a range that may still be mapped.
    pub(super) fn dead_in(&self, mut pages: Range<u64>) -> impl Iterator<Item = u64> {
        core::iter::from_fn(move || pages.find(|&page| self.link(page).is_some()))
    }

    /// Removes all pages of these frames.
    pub(super) fn forget(&mut self, frames: &FrameSet) {
        for pfn in frames.iter() {
            while self.contains(pfn) {
                self.forget_first(pfn);
            }
        }
    }

    fn forget_first(&mut self, pfn: Pfn) {
        let first = self.head(pfn);
        let link = self.links[first as usize].take();
        self.heads[pfn.0 as usize] = link.map_or(END, |link| link.next);
        self.count -= 1;
    }

    /// Removes a page. Returns the frame that it mapped, if it was in the index.
    pub(super) fn forget_page(&mut self, page: u64) -> Option<Pfn> {
        let gone = self.link(page)?;
        let pfn = Pfn(gone.frame.into());
        let leads_here = |&before: &u64| self.link(before).is_some_and(|l| l.next == page as u32);
        let before = self.list(pfn).find(leads_here);
        match before.map(|before| &mut self.links[before as usize]) {
            Some(Some(link)) => {
                link.next = gone.next;
                self.links[page as usize] = None;
                self.count -= 1;
            }
            _ => self.forget_first(pfn),
        }
        Some(pfn)
    }

    /// Removes a page when all pages are being removed, so that its list needs no repair. Returns
    /// its frame.
    pub(super) fn forget_with_all(&mut self, page: u64) -> Option<Pfn> {
        let gone = self.links.get_mut(page as usize)?.take()?;
        self.heads[gone.frame as usize] = END;
        self.count -= 1;
        Some(Pfn(gone.frame.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(frames: &[u64]) -> FrameSet {
        frames.iter().copied().map(Pfn).collect()
    }

    fn filled() -> Index {
        let mut index = Index::new(20);
        for (frame, page) in [(1, 9), (2, 4), (1, 5), (1, 0), (3, 7)] {
            index.add(Pfn(frame), page);
        }
        index
    }

    #[test]
    fn the_pages_of_a_frame_come_in_order() {
        let index = filled();
        assert_eq!(index.of(&set(&[1, 3, 8])), [0, 5, 7, 9]);
        assert_eq!(index.dead_in(4..9).collect::<Vec<_>>(), [4, 5, 7]);
    }

    #[test]
    fn removed_frames_have_no_pages() {
        let mut index = filled();
        index.forget(&set(&[1]));
        assert!(!index.contains(Pfn(1)) && index.contains(Pfn(2)));
        assert_eq!(index.dead_in(0..100).collect::<Vec<_>>(), [4, 7]);
        index.add(Pfn(2), 9);
        assert_eq!(index.of(&set(&[2])), [4, 9]);
        assert_eq!(index.len(), 3);
    }

    #[test]
    fn a_page_is_removed_wherever_it_is_in_its_list() {
        for page in [0, 5, 9] {
            let mut index = filled();
            assert_eq!(index.forget_page(page), Some(Pfn(1)));
            assert_eq!(index.forget_page(page), None);
            let mut left = alloc::vec![0, 5, 9];
            left.retain(|&other| other != page);
            assert_eq!(index.of(&set(&[1])), left);
            assert_eq!(index.len(), 4);
        }
        for forget in [Index::forget_page, Index::forget_with_all] {
            let mut index = filled();
            for page in [5, 0, 9] {
                assert_eq!(forget(&mut index, page), Some(Pfn(1)));
            }
            assert!(!index.contains(Pfn(1)));
        }
    }
}
