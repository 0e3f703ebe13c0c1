//! The page of a guest's store (`public/io/xs_wire.h`, `xenstore_domain_interface`).

use crate::ring::{Reader, Writer};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, AtomicU32};

/// The page as both sides write it; zeros follow to its end.
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
    /// A page of zeros: both directions empty.
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

    /// What the guest asks.
    pub fn from_guest(&self) -> Reader<'_, 1024> {
        Reader::new(&self.requests, &self.req_cons, &self.req_prod)
    }

    /// What it is answered.
    pub fn to_guest(&self) -> Writer<'_, 1024> {
        Writer::new(&self.replies, &self.rsp_cons, &self.rsp_prod)
    }
}

impl Default for StorePage {
    fn default() -> StorePage {
        StorePage::new()
    }
}
