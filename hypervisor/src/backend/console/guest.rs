//! A guest's console: output, by hypercall or through its ring, and typed input.

use super::{focus, ring};
use crate::console::buffer;
use crate::console::log::head;
use crate::memory::frame_refs::WritableRef;
use arrayvec::{ArrayString, ArrayVec};
use core::fmt::Write;
use pinfold_abi::record::{Who, kind};
use pinfold_log::{ConsoleLine, Source};
use pinfold_rings::InvalidIndices;
use pinfold_validator::{DomId, ExternalRef, Mfn, Refusal};

/// Bytes of a line at most; a longer one is split.
const MAX_LINE: usize = 512;
/// Typed bytes that are kept until the guest has room.
const MAX_TYPED: usize = 256;
/// Bytes of a line's head at most.
const MAX_HEAD: usize = 64;

/// The position in an escape sequence (ECMA-48).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    Begun,
    Control,
}

impl Escape {
    /// Advances by a byte. True if it belongs to a sequence.
    fn take(&mut self, byte: u8) -> bool {
        let (next, belongs) = match (*self, byte) {
            (_, 0x1b) => (Escape::Begun, true),
            (Escape::Begun, b'[') => (Escape::Control, true),
            (Escape::Control, 0x20..=0x3f) => (Escape::Control, true),
            (Escape::Begun, 0x20..=0x7e) | (Escape::Control, 0x40..=0x7e) => (Escape::None, true),
            _ => (Escape::None, false),
        };
        *self = next;
        belongs
    }
}

/// The console of one domain.
#[derive(Debug)]
pub struct GuestConsole {
    domain: DomId,
    line: ArrayVec<u8, MAX_LINE>,
    /// Bytes of the line that were written to the log.
    shown: usize,
    /// Output stays in the ring until the log's buffer has room.
    stalled: bool,
    /// The domain has ended, so this is the last output.
    closing: bool,
    ring: Option<WritableRef>,
    /// The guest has used its ring. Before that, input is kept for its hypercalls.
    uses_ring: bool,
    /// The guest has read input by hypercall.
    asks: bool,
    typed: ArrayVec<u8, MAX_TYPED>,
    /// The guest's position in an escape sequence.
    escape: Escape,
    /// The log has a record of invalid indices in the ring.
    told: bool,
}

impl GuestConsole {
    /// A console without a ring.
    pub const fn new(domain: DomId) -> GuestConsole {
        GuestConsole {
            domain,
            line: ArrayVec::new_const(),
            shown: 0,
            stalled: false,
            closing: false,
            ring: None,
            uses_ring: false,
            asks: false,
            typed: ArrayVec::new_const(),
            escape: Escape::None,
            told: false,
        }
    }

    /// Opens the ring in a frame of the domain's, on which it holds a writable reference.
    ///
    /// # Errors
    /// As [`pinfold_validator::Validator::get_writable_ref`].
    pub fn open(&mut self, frame: Mfn) -> Result<(), Refusal> {
        self.ring = Some(WritableRef::get(self.domain, frame)?);
        Ok(())
    }

    /// Reads the last output, ends the line, and closes the ring. Before the domain's frames are freed.
    pub fn close(&mut self) {
        self.closing = true;
        self.serve_ring();
        if !self.line.is_empty() {
            self.end_line();
        }
        self.stalled = false;
        self.ring = None;
    }

    /// Whether output stays in the ring until the log's buffer has room.
    pub fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Whether the guest may wait for input.
    pub fn takes_input(&self) -> bool {
        self.uses_ring || self.asks
    }

    /// The reference on the ring's frame, for the audit.
    pub fn held(&self) -> Option<ExternalRef> {
        self.ring.as_ref().and_then(WritableRef::external)
    }

    /// Prints bytes of the guest, as far as the log's buffer has room. Returns how many were printed; the
    /// guest keeps the others.
    pub fn print(&mut self, bytes: &[u8]) -> usize {
        let live = focus::has_keyboard(self.domain);
        for (taken, &byte) in bytes.iter().enumerate() {
            let mut escape = self.escape;
            // Escape sequences can control the terminal, so only the guest that has the keyboard may
            // send them.
            if escape.take(byte) && !live {
                self.escape = escape;
                continue;
            }
            let ends = byte == b'\n';
            if (ends || self.line.is_full()) && !self.end_line() {
                return taken;
            }
            self.escape = escape;
            match byte {
                b'\n' => {}
                // Harmless on every terminal.
                b' '..=b'~' | b'\t' => self.line.push(byte),
                // Line editing of shells, and text that isn't ASCII.
                0x07 | 0x08 | b'\r' | 0x1b | 0x80.. if live => self.line.push(byte),
                b'\r' => {}
                _ => self.line.push(b'?'),
            }
        }
        if live {
            self.show();
        }
        bytes.len()
    }

    /// Prints the unfinished line, if the log's buffer has room.
    pub fn show(&mut self) {
        if self.shown < self.line.len() && self.write(false) {
            self.shown = self.line.len();
        }
    }

    /// Ends the line. False if the log's buffer has no room; then the line is kept.
    fn end_line(&mut self) -> bool {
        let written = self.write(true) || self.closing;
        if written {
            self.line.clear();
            self.shown = 0;
        }
        written
    }

    fn write(&self, whole: bool) -> bool {
        let domain = self.domain.get();
        let mut begin = ArrayString::<MAX_HEAD>::new();
        // The longest head is half as long.
        let _ = write!(begin, "{} ", head(Who::Domain(domain), kind::CONSOLE));
        let line = ConsoleLine {
            prefix: begin.as_bytes(),
            text: &self.line,
            written: self.shown,
            complete: whole,
        };
        if buffer::append_line(Source::Console(domain), domain, &line) {
            return true;
        }
        if !self.closing {
            return false;
        }
        // The last output can't wait: use the quota of reports, which the domain no longer needs.
        let written = buffer::append_line(Source::Reports(domain), domain, &line);
        if !written {
            buffer::count_dropped(Source::Console(domain));
        }
        written
    }

    /// Services the ring: prints output, delivers input. True if the ring has changed, so that the guest
    /// needs an event. To be called at once when the guest sends on its console's port: it spins while
    /// the ring is full.
    pub fn service(&mut self) -> bool {
        self.uses_ring = true;
        self.serve_ring()
    }

    fn serve_ring(&mut self) -> bool {
        // Put back below: `print` needs the rest of the console.
        let Some(page) = self.ring.take() else { return false };
        // The ring's size bounds the time. Output for which the log's buffer has no room stays in the
        // ring, and the guest waits as for any slow console.
        let printed = ring::drain(&page, &mut |bytes: &[u8]| self.print(bytes));
        let brought = ring::offer(&page, &self.typed);
        self.ring = Some(page);
        // Invalid indices empty the ring.
        self.stalled = printed.is_ok_and(|(_, stayed)| stayed);
        let printed = printed.map(|(printed, _)| printed);
        let printed = self.tell(printed);
        let brought = self.tell(brought);
        self.typed.drain(..brought);
        printed + brought != 0
    }

    /// Logs invalid indices once; the guest only loses its output.
    fn tell(&mut self, moved: Result<usize, InvalidIndices>) -> usize {
        moved.unwrap_or_else(|invalid| {
            if !core::mem::replace(&mut self.told, true) {
                log::warn!("console: d{} wrote over its ring: {invalid}", self.domain);
            }
            0
        })
    }

    /// Delivers typed bytes to the guest; those for which it has no room are kept, up to a limit. Returns
    /// as [`GuestConsole::service`].
    pub fn type_in(&mut self, bytes: &[u8]) -> bool {
        let room = self.typed.remaining_capacity();
        self.typed.extend(bytes.iter().copied().take(room));
        self.uses_ring && self.serve_ring()
    }

    /// Reads typed bytes, for a guest that reads by hypercall. Returns how many.
    pub fn read(&mut self, to: &mut [u8]) -> usize {
        self.asks = true;
        let count = to.len().min(self.typed.len());
        for (to, byte) in to.iter_mut().zip(self.typed.drain(..count)) {
            *to = byte;
        }
        count
    }
}
