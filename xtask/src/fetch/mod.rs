//! What a run needs and the tree does not hold: QEMU, firmware, the bootloader, Xen.
//!
//! Each has one function that gives it, fetching it the first time. Packages are unpacked below
//! `target/tools` or `ovmf/`; the only things ever installed into the system are QEMU and
//! Chromium, and only for root. What is there already is used without a look at the network.

pub(crate) mod bootloader;
pub(crate) mod chromium;
pub(crate) mod debian;
pub(crate) mod firmware;
pub(crate) mod grub;
pub(crate) mod linux;
pub(crate) mod qemu;
pub(crate) mod xen;
