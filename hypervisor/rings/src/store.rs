//! The xenstore page of a guest (`public/io/xs_wire.h`, `xenstore_domain_interface`).

use crate::ring::{Reader, Writer};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, AtomicU32};

/// The beginning of the page that the guest and the hypervisor share; the rest is zero.
#[derive(Debug)]
#[repr(C)]
pub struct StorePage {
    requests: [AtomicU8; 1024],
    replies: [AtomicU8; 1024],
    req_cons: AtomicU32,
    req_prod: AtomicU32,
    rsp_cons: AtomicU32,
    rsp_prod: AtomicU32,
}

const _: () = {
    assert!(offset_of!(StorePage, replies) == 0x400);
    assert!(offset_of!(StorePage, req_cons) == 0x800);
    assert!(offset_of!(StorePage, req_prod) == 0x804);
    assert!(offset_of!(StorePage, rsp_cons) == 0x808);
    assert!(offset_of!(StorePage, rsp_prod) == 0x80c);
};

impl StorePage {
    /// A zeroed page: both rings are empty.
    pub const fn new() -> StorePage {
        StorePage {
            requests: [const { AtomicU8::new(0) }; 1024],
            replies: [const { AtomicU8::new(0) }; 1024],
            req_cons: AtomicU32::new(0),
            req_prod: AtomicU32::new(0),
            rsp_cons: AtomicU32::new(0),
            rsp_prod: AtomicU32::new(0),
        }
    }

    /// Reads the guest's requests.
    pub fn requests(&self) -> Reader<'_, 1024> {
        Reader::new(&self.requests, &self.req_cons, &self.req_prod)
    }

    /// Writes replies and watch events for the guest.
    pub fn replies(&self) -> Writer<'_, 1024> {
        Writer::new(&self.replies, &self.rsp_cons, &self.rsp_prod)
    }
}

impl Default for StorePage {
    fn default() -> StorePage {
        StorePage::new()
    }
}
