//! Objects and their pages.

use super::{PageId, Rule};
use crate::addr::Pfn;
use alloc::vec::Vec;
use core::ops::Range;

/// An object of a [`Pager`](super::Pager). Its number is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectId(pub(super) u64);

impl ObjectId {
    pub(super) fn page(self, page: u64) -> PageId {
        PageId { object: self.0, page }
    }
}

/// A page. A mapped page is pinned, and a pinned page has a frame.
#[derive(Clone, Debug, Default)]
pub(super) struct Page {
    pub(super) frame: Option<Pfn>,
    pub(super) pins: u32,
    /// Views that map it.
    pub(super) views: u32,
    /// Whether it may differ from what the store has.
    pub(super) dirty: bool,
    /// Whether it was pinned since the hand of the clock passed it.
    pub(super) used: bool,
    /// Whether the store has it.
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

    /// Checks that a range is one of this object. Returns it as indices.
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

    /// Checks that every page of a range is pinned. Returns it as indices.
    pub(super) fn pinned(&self, range: &Range<u64>) -> Result<Range<usize>, Rule> {
        let range = self.range(range)?;
        self.first(range.clone(), |page| page.pins == 0)
            .map_or(Ok(range), |page| Err(Rule::Pinned { page }))
    }

    /// The first page of a range that satisfies a condition.
    pub(super) fn first(
        &self,
        range: Range<usize>,
        condition: impl Fn(&Page) -> bool,
    ) -> Option<u64> {
        let found = self.pages[range.clone()].iter().position(condition)?;
        Some((range.start + found) as u64)
    }
}
