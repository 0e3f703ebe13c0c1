//! Objects and their pages.

use super::{Place, Rule};
use crate::addr::Pfn;
use alloc::vec::Vec;
use core::ops::Range;

/// An object of a [`Pager`](super::Pager). Its number is never given to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectId(pub(super) u64);

impl ObjectId {
    pub(super) fn place(self, page: u64) -> Place {
        Place { object: self.0, page }
    }
}

/// A page. Whoever is mapped is pinned, and whoever is pinned has a frame.
#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    pub(super) frame: Option<Pfn>,
    pub(super) pins: u32,
    /// Views that map it.
    pub(super) views: u32,
    /// It may have in it what the store has not.
    pub(super) dirty: bool,
    /// It was pinned since the clock's hand came by.
    pub(super) used: bool,
    /// The store has it.
    pub(super) stored: bool,
}

/// An object.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) pages: Vec<Page>,
}

impl Object {
    pub(super) fn new(pages: u64) -> Object {
        Object { pages: alloc::vec![Page::default(); pages as usize] }
    }

    /// The range as indices, if it is one of this object.
    pub(super) fn range(&self, range: &Range<u64>) -> Result<Range<usize>, Rule> {
        let pages = self.pages.len() as u64;
        if range.start >= range.end {
            return Err(Rule::NotEmpty);
        }
        if range.end > pages {
            return Err(Rule::Within { pages, end: range.end });
        }
        Ok(range.start as usize..range.end as usize)
    }

    /// The range as indices, if every page in it is pinned.
    pub(super) fn pinned(&self, range: &Range<u64>) -> Result<Range<usize>, Rule> {
        let range = self.range(range)?;
        self.first(range.clone(), |page| page.pins == 0)
            .map_or(Ok(range), |page| Err(Rule::Pinned { page }))
    }

    /// The first page of a range of which this is so.
    pub(super) fn first(&self, range: Range<usize>, so: impl Fn(&Page) -> bool) -> Option<u64> {
        let found = self.pages[range.clone()].iter().position(so)?;
        Some((range.start + found) as u64)
    }
}
