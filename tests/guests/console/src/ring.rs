//! The guest's end of the console ring.

use arrayvec::ArrayString;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use pinfold_guest::addr::Mfn;
use pinfold_guest::entry::memory::Frames;
use pinfold_guest::entry::{Boot, event as events};
use pinfold_guest::hypercall::event::{self, Port};
use pinfold_guest::hypercall::sched;

/// The page (`public/io/console.h`).
#[repr(C)]
struct Page {
    input: [AtomicU8; 1024],
    output: [AtomicU8; 2048],
    in_cons: AtomicU32,
    in_prod: AtomicU32,
    out_cons: AtomicU32,
    out_prod: AtomicU32,
}

/// The ring and its port.
pub(crate) struct Ring {
    page: &'static Page,
    port: Port,
}

const _: () = assert!(core::mem::offset_of!(Page, in_cons) == 0xc00);

impl Ring {
    /// Finds the ring that the builder mapped.
    pub(crate) fn find(boot: &Boot) -> Option<Ring> {
        let info = boot.start_info();
        let frames = Frames::new(boot);
        let va = frames.va(frames.pfn(Mfn(info.console_mfn))?);
        if boot.is_first_domain() || info.console_evtchn == 0 {
            return None;
        }
        // SAFETY: the page stays mapped, and both sides use atomic accesses.
        Some(Ring { page: unsafe { &*(va.0 as *const Page) }, port: Port(info.console_evtchn) })
    }

    fn notify(&self) {
        let _ = event::send(self.port);
    }

    /// Writes bytes; waits while the ring is full.
    fn bytes(&self, bytes: &[u8]) {
        let page = self.page;
        for &byte in bytes {
            let produced = page.out_prod.load(Ordering::Relaxed);
            while produced.wrapping_sub(page.out_cons.load(Ordering::Acquire)) >= 2048 {
                self.notify();
                let _ = sched::yield_now();
            }
            page.output[produced as usize % 2048].store(byte, Ordering::Relaxed);
            page.out_prod.store(produced.wrapping_add(1), Ordering::Release);
        }
    }

    /// Writes a line.
    pub(crate) fn line(&self, text: fmt::Arguments<'_>) {
        let mut line = ArrayString::<256>::new();
        let _ = line.write_fmt(text);
        self.bytes(line.as_bytes());
        self.bytes(b"\r\n");
        self.notify();
    }

    /// Writes a prompt, and reads a line, which it echoes; DEL removes a byte.
    pub(crate) fn read_line(&self, prompt: &str) -> ArrayString<64> {
        let mut line = ArrayString::new();
        self.bytes(prompt.as_bytes());
        self.notify();
        loop {
            match self.key() {
                b'\r' => break,
                0x7f => {
                    if line.pop().is_some() {
                        self.bytes(b"\x08 \x08");
                    }
                }
                key => {
                    if line.try_push(key as char).is_ok() {
                        self.bytes(&[key]);
                    }
                }
            }
            self.notify();
        }
        self.bytes(b"\r\n");
        self.notify();
        line
    }

    /// Waits for a key.
    fn key(&self) -> u8 {
        let page = self.page;
        loop {
            let consumed = page.in_cons.load(Ordering::Relaxed);
            if page.in_prod.load(Ordering::Acquire) != consumed {
                let key = page.input[consumed as usize % 1024].load(Ordering::Relaxed);
                page.in_cons.store(consumed.wrapping_add(1), Ordering::Release);
                self.notify();
                return key;
            }
            // Cleared before the next check: an event after that sets it again.
            if !events::clear_pending(self.port) {
                let _ = sched::poll(&[self.port], 0);
            }
        }
    }

    /// Returns the consumer's and the producer's index of the output.
    pub(crate) fn output_indices(&self) -> (u32, u32) {
        (self.page.out_cons.load(Ordering::SeqCst), self.page.out_prod.load(Ordering::SeqCst))
    }

    /// Returns the consumer's and the producer's index of the input.
    pub(crate) fn input_indices(&self) -> (u32, u32) {
        (self.page.in_cons.load(Ordering::SeqCst), self.page.in_prod.load(Ordering::SeqCst))
    }

    /// Moves the output's producer ahead of the consumer by this distance. Returns the new index.
    pub(crate) fn set_output_ahead(&self, distance: u32) -> u32 {
        let produced = self.page.out_cons.load(Ordering::SeqCst).wrapping_add(distance);
        self.page.out_prod.store(produced, Ordering::SeqCst);
        self.notify();
        produced
    }

    /// Moves the input's consumer behind the producer by this distance. Returns the new index.
    pub(crate) fn set_input_behind(&self, distance: u32) -> u32 {
        let consumed = self.page.in_prod.load(Ordering::SeqCst).wrapping_sub(distance);
        self.page.in_cons.store(consumed, Ordering::SeqCst);
        self.notify();
        consumed
    }
}
