//! Watches, and the events that wait to be told.

use crate::path::is_within;
use crate::quota::{CHANGE_BYTES, CHANGES, WATCH_BYTES, WATCHES};
use crate::tree::Tree;
use crate::wire::{Error, Header, MAX_PAYLOAD, kind};
use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// A watch.
#[derive(Debug)]
struct Watch {
    /// The path as the guest gave it.
    path: Box<[u8]>,
    token: Box<[u8]>,
    /// The node, if it is the domain's own.
    key: Option<Box<[u8]>>,
}

/// What happened to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) key: Box<[u8]>,
    /// It is gone, with all below it.
    pub(crate) removed: bool,
}

/// Changes that events are due for, within bounds.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) list: Vec<Change>,
    bytes: usize,
}

impl Changes {
    /// Whether one more may be noted.
    pub(crate) fn has_room(&self, key: &[u8]) -> bool {
        self.list.len() < CHANGES && self.bytes + key.len() <= CHANGE_BYTES
    }

    /// Notes one, if it isn't.
    pub(crate) fn note(&mut self, key: &[u8], removed: bool) {
        if !self.list.iter().any(|change| *change.key == *key && change.removed == removed) {
            self.bytes += key.len();
            self.list.push(Change { key: key.into(), removed });
        }
    }
}

/// An event that waits: the watch's number, and the change's; none: the watch's own node.
#[derive(Clone, Copy, Debug)]
struct Event {
    watch: u16,
    change: Option<u8>,
}

const _: () = assert!(CHANGES <= 256 && WATCHES <= 65536 && size_of::<Event>() == 4);

/// A domain's watches. While events wait, no watch comes or goes.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    list: Vec<Watch>,
    bytes: usize,
    events: VecDeque<Event>,
    changes: Vec<Change>,
}

impl Watches {
    fn position(&self, path: &[u8], key: Option<&[u8]>, token: &[u8]) -> Option<usize> {
        let is_it = |watch: &Watch| {
            let same_node =
                if key.is_some() { watch.key.as_deref() == key } else { *watch.path == *path };
            same_node && *watch.token == *token
        };
        self.list.iter().position(is_it)
    }

    /// Adds a watch, which fires once at once.
    ///
    /// # Errors
    /// [`Error::Exists`]; [`Error::TooBig`] if there are too many.
    pub(crate) fn add(
        &mut self,
        path: &[u8],
        key: Option<&[u8]>,
        token: &[u8],
    ) -> Result<(), Error> {
        if self.position(path, key, token).is_some() {
            return Err(Error::Exists);
        }
        let bytes = self.bytes + cost(path, key, token);
        if self.list.len() >= WATCHES || bytes > WATCH_BYTES {
            return Err(Error::TooBig);
        }
        self.bytes = bytes;
        self.events.push_back(Event { watch: self.list.len() as u16, change: None });
        self.list.push(Watch { path: path.into(), token: token.into(), key: key.map(Into::into) });
        Ok(())
    }

    /// Removes a watch.
    ///
    /// # Errors
    /// [`Error::NoEntry`].
    pub(crate) fn remove(
        &mut self,
        path: &[u8],
        key: Option<&[u8]>,
        token: &[u8],
    ) -> Result<(), Error> {
        let index = self.position(path, key, token).ok_or(Error::NoEntry)?;
        let gone = self.list.remove(index);
        self.bytes -= cost(&gone.path, gone.key.as_deref(), &gone.token);
        Ok(())
    }

    /// Forgets all.
    pub(crate) fn clear(&mut self) {
        *self = Watches::default();
    }

    /// Makes the events that are due for changes. `before` is the tree as it was: who watches a
    /// node that was below a removed one is told, too.
    pub(crate) fn fire(&mut self, changes: Changes, before: &Tree) {
        debug_assert!(self.events.is_empty());
        self.changes = changes.list;
        for (number, change) in (0..=u8::MAX).zip(&self.changes) {
            for (index, watch) in (0..).zip(&self.list) {
                let Some(key) = &watch.key else { continue };
                if is_within(&change.key, key) {
                    self.events.push_back(Event { watch: index, change: Some(number) });
                } else if change.removed && is_within(key, &change.key) && before.contains(key) {
                    self.events.push_back(Event { watch: index, change: None });
                }
            }
        }
    }

    /// Takes back what [`Watches::fire`] made.
    pub(crate) fn forget_events(&mut self) {
        self.changes = Vec::new();
        self.events = VecDeque::new();
    }

    /// Writes the next event that waits; `false` if there is none.
    pub(crate) fn tell(&mut self, home: &str, to: &mut Vec<u8>) -> bool {
        while let Some(event) = self.events.pop_front() {
            let Some(watch) = self.list.get(usize::from(event.watch)) else { continue };
            let changed = event.change.and_then(|number| self.changes.get(usize::from(number)));
            // A watch by a relative path is told relative paths.
            let absolute = watch.path.starts_with(b"/");
            let path: [&[u8]; 3] = match changed {
                None => [&watch.path, b"", b""],
                Some(change) if !absolute => [&change.key, b"", b""],
                Some(change) if change.key.is_empty() => [home.as_bytes(), b"", b""],
                Some(change) => [home.as_bytes(), b"/", &change.key],
            };
            let payload = [path[0], path[1], path[2], b"\0", &*watch.token, b"\0"];
            if payload.iter().map(|part| part.len()).sum::<usize>() <= MAX_PAYLOAD {
                let header =
                    Header { kind: kind::WATCH_EVENT, request: 0, transaction: 0, length: 0 };
                header.write(to, &payload);
                return true;
            }
        }
        self.forget_events();
        false
    }
}

/// What a watch is charged.
fn cost(path: &[u8], key: Option<&[u8]>, token: &[u8]) -> usize {
    path.len() + key.map_or(0, <[u8]>::len) + token.len()
}
