//! The console page of a guest (`public/io/console.h`, `xencons_interface`).

use crate::ring::{Reader, Writer};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU8, AtomicU32};
use pinfold_abi::console::ConsoleRing;

/// The page that the guest and the hypervisor share.
#[derive(Debug)]
#[repr(C)]
pub struct ConsolePage {
    input: [AtomicU8; 1024],
    output: [AtomicU8; 2048],
    in_cons: AtomicU32,
    in_prod: AtomicU32,
    out_cons: AtomicU32,
    out_prod: AtomicU32,
}

const _: () = {
    assert!(size_of::<ConsolePage>() == size_of::<ConsoleRing>());
    assert!(offset_of!(ConsolePage, output) == offset_of!(ConsoleRing, output));
    assert!(offset_of!(ConsolePage, in_cons) == offset_of!(ConsoleRing, in_cons));
    assert!(offset_of!(ConsolePage, in_prod) == offset_of!(ConsoleRing, in_prod));
    assert!(offset_of!(ConsolePage, out_cons) == offset_of!(ConsoleRing, out_cons));
    assert!(offset_of!(ConsolePage, out_prod) == offset_of!(ConsoleRing, out_prod));
};

impl ConsolePage {
    /// A zeroed page: both rings are empty.
    pub const fn new() -> ConsolePage {
        ConsolePage {
            input: [const { AtomicU8::new(0) }; 1024],
            output: [const { AtomicU8::new(0) }; 2048],
            in_cons: AtomicU32::new(0),
            in_prod: AtomicU32::new(0),
            out_cons: AtomicU32::new(0),
            out_prod: AtomicU32::new(0),
        }
    }

    /// Reads what the guest prints.
    pub fn output(&self) -> Reader<'_, 2048> {
        Reader::new(&self.output, &self.out_cons, &self.out_prod)
    }

    /// Writes input for the guest.
    pub fn input(&self) -> Writer<'_, 1024> {
        Writer::new(&self.input, &self.in_cons, &self.in_prod)
    }
}

impl Default for ConsolePage {
    fn default() -> ConsolePage {
        ConsolePage::new()
    }
}
