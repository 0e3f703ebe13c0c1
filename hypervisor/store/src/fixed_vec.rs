//! Lists with a fixed capacity.
//!
//! A [`FixedVec`] allocates its capacity when it is created, and never again: what doesn't fit is
//! refused. It derefs to a slice and has no method that could make it grow, so no code of this crate
//! can allocate memory for a request by mistake.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Deref, DerefMut, Range};

/// The list has no room for the items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// A list with a fixed capacity, of plain data.
#[derive(Debug)]
pub(crate) struct FixedVec<T> {
    items: Vec<T>,
    /// What was asked for. The allocator may have given more, which isn't used.
    capacity: usize,
}

impl<T: Copy + Default> FixedVec<T> {
    /// An empty list with room for `capacity` items.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub(crate) fn with_capacity(capacity: usize) -> Result<FixedVec<T>, TryReserveError> {
        let mut items = Vec::new();
        items.try_reserve_exact(capacity)?;
        Ok(FixedVec { items, capacity })
    }

    /// How many more items fit.
    pub(crate) fn room(&self) -> usize {
        self.capacity - self.items.len()
    }

    /// Appends an item.
    pub(crate) fn push(&mut self, item: T) -> Result<(), Full> {
        self.extend(&[item])
    }

    /// Appends items: all of them, or none.
    pub(crate) fn extend(&mut self, items: &[T]) -> Result<(), Full> {
        if items.len() > self.room() {
            return Err(Full);
        }
        self.items.extend_from_slice(items);
        Ok(())
    }

    /// Inserts an item at `at`; the items from there on move up.
    pub(crate) fn insert(&mut self, at: usize, item: T) -> Result<(), Full> {
        self.replace(at..at, &[item])
    }

    /// Replaces the items of `range` by others; the items behind move.
    ///
    /// # Errors
    /// [`Full`]: nothing has changed.
    pub(crate) fn replace(&mut self, range: Range<usize>, with: &[T]) -> Result<(), Full> {
        let (old, start) = (self.items.len(), range.start);
        let new = old - range.len() + with.len();
        if new > self.capacity {
            return Err(Full);
        }
        let end = start + with.len();
        self.items.resize(new.max(old), T::default());
        self.items.copy_within(range.end..old, end);
        self.items.truncate(new);
        self.items[start..end].copy_from_slice(with);
        Ok(())
    }

    /// Appends a copy of items of the list.
    pub(crate) fn extend_from_within(&mut self, range: Range<usize>) -> Result<(), Full> {
        if range.len() > self.room() {
            return Err(Full);
        }
        self.items.extend_from_within(range);
        Ok(())
    }

    /// Removes an item; the items behind move down.
    pub(crate) fn remove(&mut self, at: usize) -> T {
        self.items.remove(at)
    }

    /// Removes all items behind the first `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.items.truncate(len);
    }

    /// Removes all items for which `keep` returns `false`. `keep` may change the others.
    pub(crate) fn retain_mut(&mut self, keep: impl FnMut(&mut T) -> bool) {
        self.items.retain_mut(keep);
    }

    /// Removes all items.
    pub(crate) fn clear(&mut self) {
        self.items.clear();
    }

    /// Becomes a copy of another list with the same capacity.
    pub(crate) fn copy_from(&mut self, other: &FixedVec<T>) {
        debug_assert_eq!(self.capacity, other.capacity);
        self.items.clear();
        self.items.extend_from_slice(&other.items);
    }
}

impl<T> Deref for FixedVec<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T> DerefMut for FixedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.items
    }
}

impl fmt::Write for FixedVec<u8> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.extend(text.as_bytes()).map_err(|Full| fmt::Error)
    }
}
