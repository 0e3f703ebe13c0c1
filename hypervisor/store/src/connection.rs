//! Messages out of a stream of bytes, replies and events into one.

use crate::fixed::Fixed;
use crate::quota::PIECE_BYTES;
use crate::store::{self, Store};
use crate::wire::{Error, HEADER, Header, MAX_PAYLOAD};
use alloc::collections::TryReserveError;

/// Bytes of a message.
const MESSAGE: usize = HEADER + MAX_PAYLOAD;
/// What a connection takes of the heap, its store included.
pub(crate) const HEAP_BYTES: usize = store::HEAP_BYTES + 2 * (MESSAGE + PIECE_BYTES);

/// A domain's connection to its store.
///
/// A request is taken only when all that is to be said about the one before has gone: so what waits
/// is one reply, and the events of one request.
#[derive(Debug)]
pub struct Connection {
    store: Store,
    /// The message that is coming, as far as it came.
    input: Fixed<u8>,
    /// The message that is going.
    output: Fixed<u8>,
    /// Bytes of it that have gone.
    gone: usize,
    broken: bool,
}

impl Connection {
    /// A store with an empty home. All that it will ever take is reserved here.
    ///
    /// # Errors
    /// If there is no memory for it; after this, memory is never asked for.
    pub fn new(domain: u16) -> Result<Connection, TryReserveError> {
        Ok(Connection {
            store: Store::new(domain)?,
            input: Fixed::with_capacity(MESSAGE)?,
            output: Fixed::with_capacity(MESSAGE)?,
            gone: 0,
            broken: false,
        })
    }

    /// Puts a node into the domain's home, before the domain runs. The path is relative.
    ///
    /// # Errors
    /// [`Error::NoSpace`] by the quotas, which are the domain's.
    pub fn put(&mut self, path: &str, value: &str) -> Result<(), Error> {
        self.store.tree.write(path.as_bytes(), value.as_bytes())
    }

    /// Bytes that can be taken now: the rest of a header, or of a message. 0 while something waits
    /// to be said, and for ever once the guest said nonsense.
    pub fn wanted(&mut self) -> usize {
        if self.broken || !self.output().is_empty() {
            return 0;
        }
        match self.header() {
            None => HEADER - self.input.len(),
            Some(header) => HEADER + header.length as usize - self.input.len(),
        }
    }

    /// The guest sent a header that can't be: where its next message begins can't be known.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    fn header(&self) -> Option<Header> {
        self.input.first_chunk::<HEADER>().map(Header::read)
    }

    /// Takes bytes; what is more than [`Connection::wanted`] is left out.
    pub fn take(&mut self, bytes: &[u8]) {
        let count = bytes.len().min(self.wanted());
        let fits = self.input.extend(&bytes[..count]).is_ok();
        let Some(header) = self.header() else { return };
        if !fits || header.length as usize > MAX_PAYLOAD {
            self.broken = true;
            self.input.clear();
        } else if self.input.len() == HEADER + header.length as usize {
            // Nothing waits to be said, or nothing had been wanted.
            self.store.answer(&header, &self.input[HEADER..], &mut self.output);
            self.input.clear();
        }
    }

    /// What is to be said next; empty: nothing.
    pub fn output(&mut self) -> &[u8] {
        if self.gone == self.output.len() {
            self.output.clear();
            self.gone = 0;
            self.store.tell(&mut self.output);
        }
        &self.output[self.gone..]
    }

    /// So many bytes of it have gone.
    pub fn sent(&mut self, count: usize) {
        self.gone = self.gone.saturating_add(count).min(self.output.len());
    }

    #[cfg(test)]
    pub(crate) fn check(&self) {
        self.store.tree.check();
        assert!(self.input.len() <= MESSAGE);
        assert!(self.output.len() <= MESSAGE);
    }
}
