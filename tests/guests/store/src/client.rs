//! Requests and their replies (`public/io/xs_wire.h`).

use crate::ring::Ring;
use alloc::vec::Vec;

/// Types of messages, `XS_*`.
pub(crate) mod kind {
    pub(crate) const DIRECTORY: u32 = 1;
    pub(crate) const READ: u32 = 2;
    pub(crate) const WATCH: u32 = 4;
    pub(crate) const UNWATCH: u32 = 5;
    pub(crate) const TRANSACTION_START: u32 = 6;
    pub(crate) const TRANSACTION_END: u32 = 7;
    pub(crate) const WRITE: u32 = 11;
    pub(crate) const RM: u32 = 13;
    pub(crate) const WATCH_EVENT: u32 = 15;
    pub(crate) const ERROR: u32 = 16;
    pub(crate) const RESET_WATCHES: u32 = 21;
}

/// The error of a request, as text: `ENOENT`.
pub(crate) type Refused = Vec<u8>;

/// A client of the store.
pub(crate) struct Client {
    pub(crate) ring: Ring,
    request: u32,
    /// Watch events that came in meanwhile.
    pub(crate) events: u32,
}

impl Client {
    pub(crate) fn new(ring: Ring) -> Client {
        Client { ring, request: 0, events: 0 }
    }

    /// Sends a request, and waits for the reply.
    pub(crate) fn ask(
        &mut self,
        kind: u32,
        transaction: u32,
        payload: &[u8],
    ) -> Result<Vec<u8>, Refused> {
        self.request += 1;
        let mut message = Vec::new();
        for word in [kind, self.request, transaction, payload.len() as u32] {
            message.extend_from_slice(&word.to_le_bytes());
        }
        message.extend_from_slice(payload);
        self.ring.send(&message);
        loop {
            let mut header = [0; 16];
            self.ring.receive(&mut header);
            let word =
                |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap_or_default());
            let mut payload = alloc::vec![0; word(12) as usize];
            self.ring.receive(&mut payload);
            match word(0) {
                kind::WATCH_EVENT => self.events += 1,
                kind::ERROR => {
                    payload.pop();
                    return Err(payload);
                }
                reply => {
                    assert!(reply == kind && word(4) == self.request, "a reply without a request");
                    return Ok(payload);
                }
            }
        }
    }
}
