//! The free pages of a range. Allocation is first fit; free neighbours are joined.

use alloc::collections::BTreeMap;

/// Free ranges of pages: first page and length. No two ranges touch.
#[derive(Debug, Default)]
pub(super) struct FreeRanges {
    ranges: BTreeMap<u64, u64>,
}

impl FreeRanges {
    /// So many pages, all free.
    pub(super) fn new(pages: u64) -> FreeRanges {
        let mut ranges = BTreeMap::new();
        if pages > 0 {
            ranges.insert(0, pages);
        }
        FreeRanges { ranges }
    }

    /// Takes so many pages. Returns the first one.
    pub(super) fn take(&mut self, pages: u64) -> Option<u64> {
        let (&start, &length) = self.ranges.iter().find(|&(_, &length)| length >= pages)?;
        self.ranges.remove(&start);
        if length > pages {
            self.ranges.insert(start + pages, length - pages);
        }
        Some(start)
    }

    /// Takes these pages if all are free. Returns whether they were.
    pub(super) fn take_at(&mut self, start: u64, pages: u64) -> bool {
        let before = self.ranges.range(..=start).next_back();
        let Some((&first, &length)) = before.filter(|&(&first, &length)| {
            start.checked_add(pages).is_some_and(|end| end <= first + length)
        }) else {
            return false;
        };
        self.ranges.remove(&first);
        if start > first {
            self.ranges.insert(first, start - first);
        }
        if first + length > start + pages {
            self.ranges.insert(start + pages, first + length - start - pages);
        }
        true
    }

    /// Gives pages back.
    ///
    /// # Panics
    ///
    /// If one of them is free already.
    pub(super) fn give(&mut self, start: u64, pages: u64) {
        let (mut start, mut length) = (start, pages);
        if let Some((&before, &count)) = self.ranges.range(..=start).next_back() {
            assert!(before + count <= start, "pages were given back twice");
            if before + count == start {
                self.ranges.remove(&before);
                (start, length) = (before, count + length);
            }
        }
        if let Some((&after, &count)) = self.ranges.range(start..).next() {
            assert!(start + length <= after, "pages were given back twice");
            if start + length == after {
                self.ranges.remove(&after);
                length += count;
            }
        }
        self.ranges.insert(start, length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_join_whatever_the_order() {
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut free = FreeRanges::new(30);
            let parts = [free.take(10), free.take(10), free.take(10)].map(Option::unwrap);
            assert_eq!(free.take(1), None);
            for part in order {
                free.give(parts[part], 10);
            }
            assert_eq!(free.take(30), Some(0), "{order:?}");
        }
    }

    #[test]
    fn take_at_takes_only_free_pages() {
        let mut free = FreeRanges::new(30);
        assert!(free.take_at(10, 5));
        for (start, pages) in [(9, 2), (10, 1), (14, 1), (29, 2), (0, 30), (40, 1)] {
            assert!(!free.take_at(start, pages), "{start}");
        }
        assert!(free.take_at(0, 10) && free.take_at(15, 15));
        free.give(0, 30);
        assert_eq!(free.take(30), Some(0));
    }

    #[test]
    #[should_panic(expected = "given back twice")]
    fn giving_pages_twice_panics() {
        let mut free = FreeRanges::new(10);
        let start = free.take(4).unwrap();
        free.give(start, 4);
        free.give(start, 4);
    }
}
