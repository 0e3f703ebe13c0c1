//! Devices that write to pages which the kernel may have let go of meanwhile.
//!
//! A device is given pages, and writes to them when it likes. Until it is through, the pages are
//! its: the mapping that the pages were found by may go, and the object that they belonged to, and
//! whoever freed them is right to think that they are free. So a transfer takes a reference of
//! each page ([`Device::begin`], [`Device::get_user_pages`]), with the name of who holds it. A page
//! that is freed while somebody holds it does not go back to the pool before the last reference
//! goes ([`Device::end`]); and one that was kept, and is to become a page table, is refused by name
//! ([`Error::InIo`](crate::mmu::Error::InIo)).
//!
//! What a transfer is mapped by is an area of a region with the device's name, so that the
//! hypervisor's report says who holds the page, too, should one become a page table after all.
//!
//! | module | what it is |
//! |---|---|
//! | `references` | who holds which frame |
//! | `device` | transfers, from beginning to end |
//! | `object` | pages that user mode sees in large aligned runs |

mod device;
#[cfg(feature = "raw")]
mod fault_injection;
mod object;

pub use device::{Device, Io};
pub use object::{Object, RUN_PAGES};
