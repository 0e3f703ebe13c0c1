//! The guest's end of the store's ring, which can also write bad indices.

use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use pinfold_guest::addr::Mfn;
use pinfold_guest::entry::memory::Frames;
use pinfold_guest::entry::{Boot, event as events};
use pinfold_guest::hypercall::event::{self, Port};
use pinfold_guest::hypercall::sched;

/// The page (`public/io/xs_wire.h`).
#[repr(C)]
struct Page {
    requests: [AtomicU8; 1024],
    replies: [AtomicU8; 1024],
    req_cons: AtomicU32,
    req_prod: AtomicU32,
    rsp_cons: AtomicU32,
    rsp_prod: AtomicU32,
}

const _: () = assert!(core::mem::offset_of!(Page, req_cons) == 0x800);

/// The ring and its port.
pub(crate) struct Ring {
    page: &'static Page,
    port: Port,
}

impl Ring {
    /// Finds the ring that the builder mapped.
    pub(crate) fn find(boot: &Boot) -> Option<Ring> {
        let info = boot.start_info();
        let frames = Frames::new(boot);
        let va = frames.va(frames.pfn(Mfn(info.store_mfn))?);
        if boot.is_first_domain() || info.store_evtchn == 0 {
            return None;
        }
        // SAFETY: the page stays mapped, and both sides use atomic accesses.
        Some(Ring { page: unsafe { &*(va.0 as *const Page) }, port: Port(info.store_evtchn) })
    }

    pub(crate) fn notify(&self) {
        let _ = event::send(self.port);
    }

    /// Waits for an event of the other side.
    fn wait(&self) {
        if !events::clear_pending(self.port) {
            let _ = sched::poll(&[self.port], 0);
        }
    }

    /// Writes bytes into the ring; waits while it is full.
    pub(crate) fn send(&self, bytes: &[u8]) {
        let page = self.page;
        for &byte in bytes {
            let produced = page.req_prod.load(Ordering::Relaxed);
            while produced.wrapping_sub(page.req_cons.load(Ordering::Acquire)) >= 1024 {
                self.notify();
                self.wait();
            }
            page.requests[produced as usize % 1024].store(byte, Ordering::Relaxed);
            page.req_prod.store(produced.wrapping_add(1), Ordering::Release);
        }
        self.notify();
    }

    /// Reads bytes from the ring; waits until they are there.
    pub(crate) fn receive(&self, bytes: &mut [u8]) {
        let page = self.page;
        for byte in bytes {
            let consumed = page.rsp_cons.load(Ordering::Relaxed);
            while page.rsp_prod.load(Ordering::Acquire) == consumed {
                self.notify();
                if page.rsp_prod.load(Ordering::Acquire) == consumed {
                    self.wait();
                }
            }
            *byte = page.replies[consumed as usize % 1024].load(Ordering::Relaxed);
            page.rsp_cons.store(consumed.wrapping_add(1), Ordering::Release);
        }
    }

    /// Discards everything that can be read; `true` if there was something.
    pub(crate) fn discard_replies(&self) -> bool {
        let produced = self.page.rsp_prod.load(Ordering::Acquire);
        self.page.rsp_cons.swap(produced, Ordering::AcqRel) != produced
    }

    /// Writes any value to an index, and any byte anywhere.
    pub(crate) fn write_raw(&self, index: u64, value: u32) {
        let page = self.page;
        let indices = [&page.req_cons, &page.req_prod, &page.rsp_cons, &page.rsp_prod];
        match index % 8 {
            which @ 0..4 => indices[which as usize].store(value, Ordering::SeqCst),
            _ => page.requests[(value / 256) as usize % 1024].store(value as u8, Ordering::SeqCst),
        }
        self.notify();
    }
}
