//! Watches, and the events that wait to be told.

use crate::fixed::Fixed;
use crate::path::is_within;
use crate::quota::{CHANGE_BYTES, CHANGES, EVENTS, PIECE_BYTES, WATCH_BYTES, WATCHES};
use crate::tree::Tree;
use crate::wire::{Error, HEADER, Header, MAX_PAYLOAD, kind};
use alloc::collections::TryReserveError;
use core::ops::Range;

/// What changes take of the heap.
pub(crate) const CHANGES_HEAP_BYTES: usize =
    CHANGES * size_of::<Change>() + CHANGE_BYTES + 2 * PIECE_BYTES;
/// What watches take of the heap.
pub(crate) const HEAP_BYTES: usize = WATCHES * size_of::<Watch>()
    + WATCH_BYTES
    + EVENTS * size_of::<Event>()
    + CHANGES_HEAP_BYTES
    + 3 * PIECE_BYTES;

/// A path that is watched: the node, if it is the domain's own, is a part of the path as the guest
/// gave it, or all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Watched<'a> {
    pub(crate) path: &'a [u8],
    /// Where in the path the domain's own node is named.
    pub(crate) key: Option<usize>,
}

impl<'a> Watched<'a> {
    fn key(&self) -> Option<&'a [u8]> {
        self.key.map(|at| &self.path[at..])
    }
}

/// A watch: where its bytes are, the path first, then the token.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    start: u16,
    path: u16,
    token: u16,
    /// As in [`Watched`].
    key: Option<u16>,
}

impl Watch {
    fn path(&self) -> Range<usize> {
        let start = usize::from(self.start);
        start..start + usize::from(self.path)
    }

    fn token(&self) -> Range<usize> {
        let start = self.path().end;
        start..start + usize::from(self.token)
    }

    fn watched<'a>(&self, bytes: &'a [u8]) -> Watched<'a> {
        Watched { path: &bytes[self.path()], key: self.key.map(usize::from) }
    }
}

/// What happened to a node, whose path is so many bytes of the list's.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    start: u16,
    key: u16,
    /// It is gone, with all below it.
    removed: bool,
}

// Every length and offset fits its type.
const _: () = assert!(WATCH_BYTES <= u16::MAX as usize && CHANGE_BYTES <= u16::MAX as usize);

/// Changes that events are due for, within bounds.
#[derive(Debug)]
pub(crate) struct Changes {
    list: Fixed<Change>,
    bytes: Fixed<u8>,
}

impl Changes {
    /// No changes.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub(crate) fn empty() -> Result<Changes, TryReserveError> {
        let list = Fixed::with_capacity(CHANGES)?;
        Ok(Changes { list, bytes: Fixed::with_capacity(CHANGE_BYTES)? })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether one more may be noted.
    pub(crate) fn has_room(&self, key: &[u8]) -> bool {
        self.list.room() != 0 && key.len() <= self.bytes.room()
    }

    /// Notes one, if it isn't.
    ///
    /// # Errors
    /// [`Error::NoSpace`] if there isn't room, see [`Changes::has_room`].
    pub(crate) fn note(&mut self, key: &[u8], removed: bool) -> Result<(), Error> {
        if self.iter().any(|change| change == (key, removed)) {
            return Ok(());
        }
        if !self.has_room(key) {
            return Err(Error::NoSpace);
        }
        let (start, length) = (self.bytes.len() as u16, key.len() as u16);
        self.bytes.extend(key)?;
        self.list.push(Change { start, key: length, removed })?;
        Ok(())
    }

    /// The nodes, and whether each is gone.
    fn iter(&self) -> impl Iterator<Item = (&[u8], bool)> {
        self.list.iter().map(|change| self.read(change))
    }

    fn get(&self, number: usize) -> Option<&[u8]> {
        self.list.get(number).map(|change| self.read(change).0)
    }

    fn read(&self, change: &Change) -> (&[u8], bool) {
        let start = usize::from(change.start);
        (&self.bytes[start..start + usize::from(change.key)], change.removed)
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
    }
}

/// An event that waits: the watch's number, and the change's; none: the watch's own node.
#[derive(Clone, Copy, Debug, Default)]
struct Event {
    watch: u16,
    change: Option<u8>,
}

const _: () = assert!(CHANGES <= 256 && WATCHES <= 65536 && size_of::<Event>() == 4);

/// A domain's watches. While events wait, no watch comes or goes.
#[derive(Debug)]
pub(crate) struct Watches {
    list: Fixed<Watch>,
    bytes: Fixed<u8>,
    events: Fixed<Event>,
    /// Events that were told, of those in the list.
    told: usize,
    /// What the events are about.
    changes: Changes,
}

impl Watches {
    /// No watches.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub(crate) fn empty() -> Result<Watches, TryReserveError> {
        Ok(Watches {
            list: Fixed::with_capacity(WATCHES)?,
            bytes: Fixed::with_capacity(WATCH_BYTES)?,
            events: Fixed::with_capacity(EVENTS)?,
            told: 0,
            changes: Changes::empty()?,
        })
    }

    fn position(&self, watched: Watched<'_>, token: &[u8]) -> Option<usize> {
        let is_it = |watch: &Watch| {
            let other = watch.watched(&self.bytes);
            let same_node = match watched.key() {
                Some(key) => other.key() == Some(key),
                None => other.path == watched.path,
            };
            same_node && self.bytes[watch.token()] == *token
        };
        self.list.iter().position(is_it)
    }

    /// Adds a watch, which fires once at once.
    ///
    /// # Errors
    /// [`Error::Exists`]; [`Error::TooBig`] if there are too many.
    pub(crate) fn add(&mut self, watched: Watched<'_>, token: &[u8]) -> Result<(), Error> {
        if self.position(watched, token).is_some() {
            return Err(Error::Exists);
        }
        let path = watched.path;
        if self.list.room() == 0 || path.len() + token.len() > self.bytes.room() {
            return Err(Error::TooBig);
        }
        self.events.push(Event { watch: self.list.len() as u16, change: None })?;
        let watch = Watch {
            start: self.bytes.len() as u16,
            path: path.len() as u16,
            token: token.len() as u16,
            key: watched.key.map(|at| at as u16),
        };
        self.bytes.extend(path)?;
        self.bytes.extend(token)?;
        self.list.push(watch)?;
        Ok(())
    }

    /// Removes a watch.
    ///
    /// # Errors
    /// [`Error::NoEntry`].
    pub(crate) fn remove(&mut self, watched: Watched<'_>, token: &[u8]) -> Result<(), Error> {
        let index = self.position(watched, token).ok_or(Error::NoEntry)?;
        let gone = self.list.remove(index);
        self.bytes.replace(gone.path().start..gone.token().end, &[])?;
        // The bytes are in the order of the list.
        for watch in &mut self.list[index..] {
            watch.start -= gone.path + gone.token;
        }
        Ok(())
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
        self.forget_events();
    }

    /// Makes the events that are due for one change. `before` is the tree as it was: who watches a
    /// node that was below a removed one is told, too.
    ///
    /// # Errors
    /// None: any path fits, and [`EVENTS`] is enough for all watches.
    pub(crate) fn fire_one(
        &mut self,
        key: &[u8],
        removed: bool,
        before: &Tree,
    ) -> Result<(), Error> {
        self.changes.clear();
        self.changes.note(key, removed)?;
        self.fire(before)
    }

    /// Makes the events that are due for changes, which are taken; an empty list is left.
    ///
    /// # Errors
    /// None, as with [`Watches::fire_one`].
    pub(crate) fn fire_all(&mut self, changes: &mut Changes, before: &Tree) -> Result<(), Error> {
        self.changes.clear();
        core::mem::swap(&mut self.changes, changes);
        self.fire(before)
    }

    fn fire(&mut self, before: &Tree) -> Result<(), Error> {
        debug_assert!(self.events.is_empty());
        for (number, (changed, removed)) in (0..=u8::MAX).zip(self.changes.iter()) {
            for (index, watch) in (0..).zip(self.list.iter()) {
                let Some(key) = watch.watched(&self.bytes).key() else { continue };
                if is_within(changed, key) {
                    self.events.push(Event { watch: index, change: Some(number) })?;
                } else if removed && is_within(key, changed) && before.contains(key) {
                    self.events.push(Event { watch: index, change: None })?;
                }
            }
        }
        Ok(())
    }

    /// Takes back what [`Watches::fire_one`] made.
    pub(crate) fn forget_events(&mut self) {
        self.changes.clear();
        self.events.clear();
        self.told = 0;
    }

    /// Writes the next event that waits to an empty message; leaves it empty if there is none.
    pub(crate) fn tell(&mut self, home: &[u8], to: &mut Fixed<u8>) {
        while let Some(event) = self.events.get(self.told).copied() {
            self.told += 1;
            let Some(watch) = self.list.get(usize::from(event.watch)) else { continue };
            let changed = event.change.and_then(|number| self.changes.get(number.into()));
            let (path, token) = (&self.bytes[watch.path()], &self.bytes[watch.token()]);
            // A watch by a relative path is told relative paths.
            let absolute = path.starts_with(b"/");
            let path: [&[u8]; 3] = match changed {
                None => [path, b"", b""],
                Some(key) if !absolute => [key, b"", b""],
                Some(b"") => [home, b"", b""],
                Some(key) => [home, b"/", key],
            };
            let payload = [path[0], path[1], path[2], b"\0", token, b"\0"];
            let length: usize = payload.iter().map(|part| part.len()).sum();
            if length > MAX_PAYLOAD || HEADER + length > to.room() {
                continue;
            }
            let length = length as u32;
            let header = Header { kind: kind::WATCH_EVENT, request: 0, transaction: 0, length };
            let header = header.to_bytes();
            let parts = [&header[..]].into_iter().chain(payload);
            // There is room, see above.
            return parts.for_each(|part| to.extend(part).unwrap_or_default());
        }
        self.forget_events();
    }
}
