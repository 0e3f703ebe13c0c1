//! Lists whose whole room is there from the beginning.
//!
//! A [`Fixed`] reserves its room when it is made and never asks the allocator for anything again:
//! what doesn't fit is refused. It hands out slices, and no method that could grow the list, so no
//! code of this crate can allocate for a request by mistake.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::fmt;
use core::ops::{Deref, DerefMut, Range};

/// There is no room left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// A list of a fixed capacity. Its items are plain data: to drop one is to forget it.
#[derive(Debug)]
pub(crate) struct Fixed<T> {
    items: Vec<T>,
    /// What was asked for: the allocator may have given more, which isn't used.
    capacity: usize,
}

impl<T: Copy + Default> Fixed<T> {
    /// An empty list with room for so many items.
    ///
    /// # Errors
    /// If the allocator has no room.
    pub(crate) fn with_capacity(capacity: usize) -> Result<Fixed<T>, TryReserveError> {
        let mut items = Vec::new();
        items.try_reserve_exact(capacity)?;
        Ok(Fixed { items, capacity })
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

    /// Inserts an item; those from `at` on move up.
    pub(crate) fn insert(&mut self, at: usize, item: T) -> Result<(), Full> {
        self.replace(at..at, &[item])
    }

    /// Puts other items where `range` is; what follows moves. Nothing has changed if there is no
    /// room.
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

    /// Appends a copy of items that are in the list.
    pub(crate) fn extend_from_within(&mut self, range: Range<usize>) -> Result<(), Full> {
        if range.len() > self.room() {
            return Err(Full);
        }
        self.items.extend_from_within(range);
        Ok(())
    }

    /// Removes an item; those that follow move down.
    pub(crate) fn remove(&mut self, at: usize) -> T {
        self.items.remove(at)
    }

    /// Forgets what comes after the first `len` items.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.items.truncate(len);
    }

    /// Forgets all items that `keep` says no to. It may change the others.
    pub(crate) fn retain_mut(&mut self, keep: impl FnMut(&mut T) -> bool) {
        self.items.retain_mut(keep);
    }

    /// Forgets all items.
    pub(crate) fn clear(&mut self) {
        self.items.clear();
    }

    /// Becomes like another list of the same capacity.
    pub(crate) fn copy_from(&mut self, other: &Fixed<T>) {
        debug_assert_eq!(self.capacity, other.capacity);
        self.items.clear();
        self.items.extend_from_slice(&other.items);
    }
}

impl<T> Deref for Fixed<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T> DerefMut for Fixed<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.items
    }
}

impl fmt::Write for Fixed<u8> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.extend(text.as_bytes()).map_err(|Full| fmt::Error)
    }
}
