//! A guest's console: what it prints, by hypercall or through its ring, and what is typed for it.

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

/// Longest line; a longer one is broken. Well below what readers of the log can take.
const MAX_LINE: usize = 512;
/// Typed bytes that wait for the guest to make room.
const MAX_TYPED: usize = 256;
/// Longest head of a line.
const MAX_HEAD: usize = 64;

/// Where in an escape sequence (ECMA-48) a byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    Begun,
    Control,
}

impl Escape {
    /// Takes a byte; whether it belongs to a sequence.
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
    /// Something of the guest's stays in the ring until the log has room.
    stalled: bool,
    /// The domain has ended: nothing more comes.
    closing: bool,
    ring: Option<WritableRef>,
    /// The guest used its ring. Until it does, what is typed waits: it may ask by hypercall.
    uses_ring: bool,
    /// The guest asked by hypercall for what is typed.
    asks: bool,
    typed: ArrayVec<u8, MAX_TYPED>,
    /// Where in an escape sequence the guest is.
    escape: Escape,
    /// The log has it that the guest writes nonsense to its ring.
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

    /// Begins to serve the ring in a frame of the domain's, and holds the frame as writable: it
    /// can't go, nor become a table, while we write to it.
    ///
    /// # Errors
    /// As [`pinfold_validator::Validator::get_writable_ref`].
    pub fn open(&mut self, frame: Mfn) -> Result<(), Refusal> {
        self.ring = Some(WritableRef::get(self.domain, frame)?);
        Ok(())
    }

    /// Takes the last words, ends the line, and lets go of the ring. Before the domain's frames
    /// are freed.
    pub fn close(&mut self) {
        self.closing = true;
        self.serve_ring();
        if !self.line.is_empty() {
            self.end_line();
        }
        self.stalled = false;
        self.ring = None;
    }

    /// Whether something of the guest's stays in the ring until the log has room.
    pub fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// Whether the guest may wait for what is typed.
    pub fn takes_input(&self) -> bool {
        self.uses_ring || self.asks
    }

    /// What the console holds of frames, for the audit.
    pub fn held(&self) -> Option<ExternalRef> {
        self.ring.as_ref().and_then(WritableRef::external)
    }

    /// Shows bytes that the guest prints, as far as the log has room for them. Returns how many it
    /// took: the guest keeps the others until later.
    pub fn print(&mut self, bytes: &[u8]) -> usize {
        let live = focus::has_keyboard(self.domain);
        for (taken, &byte) in bytes.iter().enumerate() {
            let mut escape = self.escape;
            // Escape sequences can do a lot to a terminal, so only the guest that is typed to may
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
                // What a shell edits its line with, and text that isn't ASCII.
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

    /// Shows what there is of the line, finished or not, if there is room.
    pub fn show(&mut self) {
        if self.shown < self.line.len() && self.write(false) {
            self.shown = self.line.len();
        }
    }

    /// `false`: there is no room, and the line stays as it is.
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
        // A head is half as long.
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
        // Last words can't wait: there is other room that the domain won't need any more.
        let written = buffer::append_line(Source::Reports(domain), domain, &line);
        if !written {
            buffer::count_dropped(Source::Console(domain));
        }
        written
    }

    /// Works on the ring: shows what the guest printed, brings it what was typed. `true` if the
    /// ring has changed, so that the guest must be told. To be called when it sends on its
    /// console's port, at once: it waits in a loop while the ring is full.
    pub fn service(&mut self) -> bool {
        self.uses_ring = true;
        self.serve_ring()
    }

    fn serve_ring(&mut self) -> bool {
        // Put back below: `print` needs the rest of the console.
        let Some(page) = self.ring.take() else { return false };
        // The bytes are shown as they come; a ring's worth bounds the time. What the log has no
        // room for stays in the ring, and the guest waits as for any slow console.
        let printed = ring::drain(&page, &mut |bytes: &[u8]| self.print(bytes));
        let brought = ring::offer(&page, &self.typed);
        self.ring = Some(page);
        // Nonsense in the ring empties it.
        self.stalled = printed.is_ok_and(|(_, stayed)| stayed);
        let printed = printed.map(|(printed, _)| printed);
        let printed = self.tell(printed);
        let brought = self.tell(brought);
        self.typed.drain(..brought);
        printed + brought != 0
    }

    /// Nonsense in the ring is the guest's loss; the log has it once.
    fn tell(&mut self, moved: Result<usize, InvalidIndices>) -> usize {
        moved.unwrap_or_else(|invalid| {
            if !core::mem::replace(&mut self.told, true) {
                log::warn!("console: d{} wrote over its ring: {invalid}", self.domain);
            }
            0
        })
    }

    /// Brings typed bytes to the guest; what it has no room for waits, what can't wait is lost.
    /// `true` as for [`GuestConsole::service`].
    pub fn type_in(&mut self, bytes: &[u8]) -> bool {
        let room = self.typed.remaining_capacity();
        self.typed.extend(bytes.iter().copied().take(room));
        self.uses_ring && self.serve_ring()
    }

    /// Takes what was typed, for a guest that asks by hypercall; a guest with a ring finds it
    /// there. Returns how many bytes.
    pub fn read(&mut self, to: &mut [u8]) -> usize {
        self.asks = true;
        let count = to.len().min(self.typed.len());
        for (to, byte) in to.iter_mut().zip(self.typed.drain(..count)) {
            *to = byte;
        }
        count
    }
}
