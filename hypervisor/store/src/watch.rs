//! Watches and their queued events.

use crate::fixed_vec::FixedVec;
use crate::path::is_within;
use crate::quota::{ALLOCATION_OVERHEAD, CHANGE_BYTES, CHANGES, EVENTS, WATCH_BYTES, WATCHES};
use crate::tree::Tree;
use crate::wire::{Error, HEADER, Header, MAX_PAYLOAD, MessageType};
use alloc::collections::TryReserveError;
use core::ops::Range;

/// Heap memory of [`Changes`] in bytes.
pub(crate) const CHANGES_HEAP_BYTES: usize =
    CHANGES * size_of::<Change>() + CHANGE_BYTES + 2 * ALLOCATION_OVERHEAD;
/// Heap memory of [`Watches`] in bytes.
pub(crate) const HEAP_BYTES: usize = WATCHES * size_of::<Watch>()
    + WATCH_BYTES
    + EVENTS * size_of::<Event>()
    + CHANGES_HEAP_BYTES
    + 3 * ALLOCATION_OVERHEAD;

/// The path of a watch, as the guest wrote it. If it names a node of the domain, the node's key is
/// the end of the path, or all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WatchedPath<'a> {
    pub(crate) path: &'a [u8],
    /// Offset of the key in the path.
    pub(crate) key: Option<usize>,
}

impl<'a> WatchedPath<'a> {
    fn key(&self) -> Option<&'a [u8]> {
        self.key.map(|at| &self.path[at..])
    }
}

/// A watch: where its bytes are. The path comes first, then the token.
#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    start: u16,
    path: u16,
    token: u16,
    /// Offset of the key, as in [`WatchedPath`].
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

    fn watched<'a>(&self, bytes: &'a [u8]) -> WatchedPath<'a> {
        WatchedPath { path: &bytes[self.path()], key: self.key.map(usize::from) }
    }
}

/// A change of a node: where the bytes of its key are.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    start: u16,
    key: u16,
    /// The node was removed, with all nodes below it.
    removed: bool,
}

// Lengths and offsets fit `u16`.
const _: () = assert!(WATCH_BYTES <= u16::MAX as usize && CHANGE_BYTES <= u16::MAX as usize);

/// A bounded list of changed nodes, for which events are to be queued.
#[derive(Debug)]
pub(crate) struct Changes {
    list: FixedVec<Change>,
    bytes: FixedVec<u8>,
}

impl Changes {
    /// An empty list.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub(crate) fn empty() -> Result<Changes, TryReserveError> {
        let list = FixedVec::with_capacity(CHANGES)?;
        Ok(Changes { list, bytes: FixedVec::with_capacity(CHANGE_BYTES)? })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether there is room for one more change.
    pub(crate) fn has_room(&self, key: &[u8]) -> bool {
        self.list.room() != 0 && key.len() <= self.bytes.room()
    }

    /// Adds a change, unless it is in the list already.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: see [`Changes::has_room`].
    pub(crate) fn add(&mut self, key: &[u8], removed: bool) -> Result<(), Error> {
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

    /// The keys, and whether each node was removed.
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

/// A queued event: index of the watch and of the change. Without a change, the event is about the
/// watched node itself.
#[derive(Clone, Copy, Debug, Default)]
struct Event {
    watch: u16,
    change: Option<u8>,
}

const _: () = assert!(CHANGES <= 256 && WATCHES <= 65536 && size_of::<Event>() == 4);

/// The watches of a domain and their queued events. No watch is added or removed while events are
/// queued, since no request is handled then.
#[derive(Debug)]
pub(crate) struct Watches {
    list: FixedVec<Watch>,
    bytes: FixedVec<u8>,
    events: FixedVec<Event>,
    /// Number of events of the list that have been sent.
    sent: usize,
    /// The changes that the events are about.
    changes: Changes,
}

impl Watches {
    /// No watches.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub(crate) fn empty() -> Result<Watches, TryReserveError> {
        Ok(Watches {
            list: FixedVec::with_capacity(WATCHES)?,
            bytes: FixedVec::with_capacity(WATCH_BYTES)?,
            events: FixedVec::with_capacity(EVENTS)?,
            sent: 0,
            changes: Changes::empty()?,
        })
    }

    fn position(&self, watched: WatchedPath<'_>, token: &[u8]) -> Option<usize> {
        let matches = |watch: &Watch| {
            let other = watch.watched(&self.bytes);
            let same_node = match watched.key() {
                Some(key) => other.key() == Some(key),
                None => other.path == watched.path,
            };
            same_node && self.bytes[watch.token()] == *token
        };
        self.list.iter().position(matches)
    }

    /// Adds a watch and queues its first event, as the protocol demands.
    ///
    /// # Errors
    /// [`Error::Exists`]: the path is watched with the same token already. [`Error::TooBig`]: there are
    /// too many watches.
    pub(crate) fn add(&mut self, watched: WatchedPath<'_>, token: &[u8]) -> Result<(), Error> {
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
    /// [`Error::NoEntry`]: no such watch.
    pub(crate) fn remove(&mut self, watched: WatchedPath<'_>, token: &[u8]) -> Result<(), Error> {
        let index = self.position(watched, token).ok_or(Error::NoEntry)?;
        let removed = self.list.remove(index);
        self.bytes.replace(removed.path().start..removed.token().end, &[])?;
        // The bytes are in the order of the list, so those of later watches have moved.
        for watch in &mut self.list[index..] {
            watch.start -= removed.path + removed.token;
        }
        Ok(())
    }

    /// Removes all watches and queued events.
    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
        self.clear_events();
    }

    /// Queues the events for one change. `before` is the tree before the change: watches of nodes that
    /// were below a removed node fire, too.
    ///
    /// # Errors
    /// None in practice: any key fits, and [`EVENTS`] are enough for all watches.
    pub(crate) fn queue_events(
        &mut self,
        key: &[u8],
        removed: bool,
        before: &Tree,
    ) -> Result<(), Error> {
        self.changes.clear();
        self.changes.add(key, removed)?;
        self.match_watches(before)
    }

    /// Queues the events for all changes of a transaction, and empties the list of changes.
    ///
    /// # Errors
    /// None in practice, as in [`Watches::queue_events`].
    pub(crate) fn queue_all_events(
        &mut self,
        changes: &mut Changes,
        before: &Tree,
    ) -> Result<(), Error> {
        self.changes.clear();
        core::mem::swap(&mut self.changes, changes);
        self.match_watches(before)
    }

    /// Queues an event for each watch that a change concerns.
    fn match_watches(&mut self, before: &Tree) -> Result<(), Error> {
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

    /// Removes all queued events.
    pub(crate) fn clear_events(&mut self) {
        self.changes.clear();
        self.events.clear();
        self.sent = 0;
    }

    /// Writes the next queued event to `to`, which must be empty; leaves it empty if there is none.
    pub(crate) fn write_event(&mut self, base: &[u8], to: &mut FixedVec<u8>) {
        while let Some(event) = self.events.get(self.sent).copied() {
            self.sent += 1;
            let Some(watch) = self.list.get(usize::from(event.watch)) else { continue };
            let changed = event.change.and_then(|number| self.changes.get(number.into()));
            let (path, token) = (&self.bytes[watch.path()], &self.bytes[watch.token()]);
            // Watches with a relative path receive relative paths.
            let absolute = path.starts_with(b"/");
            let path: [&[u8]; 3] = match changed {
                None => [path, b"", b""],
                Some(key) if !absolute => [key, b"", b""],
                Some(b"") => [base, b"", b""],
                Some(key) => [base, b"/", key],
            };
            let payload = [path[0], path[1], path[2], b"\0", token, b"\0"];
            let length: usize = payload.iter().map(|part| part.len()).sum();
            if length > MAX_PAYLOAD || HEADER + length > to.room() {
                continue;
            }
            let length = length as u32;
            let kind = MessageType::WatchEvent.into();
            let header = Header { kind, request: 0, transaction: 0, length };
            let header = header.to_bytes();
            let parts = [&header[..]].into_iter().chain(payload);
            // Can't fail: the length was checked above.
            return parts.for_each(|part| to.extend(part).unwrap_or_default());
        }
        self.clear_events();
    }
}
