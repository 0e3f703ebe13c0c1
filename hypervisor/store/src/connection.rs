//! Messages from a stream of bytes; replies and events to a stream of bytes.

use crate::fixed_vec::FixedVec;
use crate::quota::ALLOCATION_OVERHEAD;
use crate::requests::{self, Store};
use crate::wire::{Error, HEADER, Header, MAX_PAYLOAD};
use alloc::collections::TryReserveError;

/// Bytes of the longest message.
const MESSAGE: usize = HEADER + MAX_PAYLOAD;
/// Heap memory of a store in bytes, from its creation to its end; an upper bound.
pub const HEAP_BYTES: usize = requests::HEAP_BYTES + 2 * (MESSAGE + ALLOCATION_OVERHEAD);

/// A domain's store and its connection to it.
///
/// A request is read only when the reply to the one before, and all events that it caused, have
/// been sent. So at most one reply and the events of one request are ever queued.
#[derive(Debug)]
pub struct Connection {
    store: Store,
    /// The part of the next message that has been received.
    input: FixedVec<u8>,
    /// The message that is being sent.
    output: FixedVec<u8>,
    /// Bytes of `output` that have been sent.
    sent: usize,
    broken: bool,
}

impl Connection {
    /// Creates a store without any node below the base path. Allocates all memory that the store
    /// will ever use.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn new(domain: u16) -> Result<Connection, TryReserveError> {
        Ok(Connection {
            store: Store::new(domain)?,
            input: FixedVec::with_capacity(MESSAGE)?,
            output: FixedVec::with_capacity(MESSAGE)?,
            sent: 0,
            broken: false,
        })
    }

    /// Writes a node before the domain runs. `path` is relative to the domain's base path.
    ///
    /// # Errors
    /// [`Error::NoSpace`]: a quota, which the domain's own nodes share, is used up.
    pub fn write_initial(&mut self, path: &str, value: &str) -> Result<(), Error> {
        self.store.tree.write(path.as_bytes(), value.as_bytes())
    }

    /// Number of bytes that [`Connection::receive`] takes now: the rest of a header or of a message.
    /// 0 while there is output, and for ever once the connection is broken.
    pub fn bytes_wanted(&mut self) -> usize {
        if self.broken || !self.output().is_empty() {
            return 0;
        }
        match self.header() {
            None => HEADER - self.input.len(),
            Some(header) => HEADER + header.length as usize - self.input.len(),
        }
    }

    /// Whether the guest sent a header with a length above [`MAX_PAYLOAD`]. Where its next message
    /// begins can't be known then.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    fn header(&self) -> Option<Header> {
        self.input.first_chunk::<HEADER>().map(Header::from_bytes)
    }

    /// Receives bytes from the guest, and handles the request when it is complete. Bytes beyond
    /// [`Connection::bytes_wanted`] are ignored.
    pub fn receive(&mut self, bytes: &[u8]) {
        let count = bytes.len().min(self.bytes_wanted());
        let fits = self.input.extend(&bytes[..count]).is_ok();
        let Some(header) = self.header() else { return };
        if !fits || header.length as usize > MAX_PAYLOAD {
            self.broken = true;
            self.input.clear();
        } else if self.input.len() == HEADER + header.length as usize {
            // The output is empty, or no bytes would have been wanted.
            self.store.handle_request(&header, &self.input[HEADER..], &mut self.output);
            self.input.clear();
        }
    }

    /// The bytes to send next: the rest of a reply or event. Empty: there is nothing to send.
    pub fn output(&mut self) -> &[u8] {
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
            self.store.write_event(&mut self.output);
        }
        &self.output[self.sent..]
    }

    /// Removes the first `count` bytes of [`Connection::output`]: they have been sent.
    pub fn consume_output(&mut self, count: usize) {
        self.sent = self.sent.saturating_add(count).min(self.output.len());
    }

    #[cfg(test)]
    pub(crate) fn check(&self) {
        self.store.tree.check();
        assert!(self.input.len() <= MESSAGE);
        assert!(self.output.len() <= MESSAGE);
    }
}
