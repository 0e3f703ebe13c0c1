//! Devices that write to pages which the kernel may have freed meanwhile.
//!
//! A device writes to the pages of a transfer until the transfer ends. Meanwhile the mapping by
//! which the pages were found may go, and the object that they belong to may free them. So a
//! transfer takes a reference to each page ([`Device::begin`], [`Device::get_user_pages`]) in the
//! name of the device. A page that is freed during a transfer becomes free when the last reference
//! is dropped ([`Device::end`]); one that is to become a page table is refused, with the name
//! ([`Error::InIo`](crate::mmu::Error::InIo)).
//!
//! A transfer is mapped by an area in a region with the device's name. Should one of its pages
//! become a page table after all, the hypervisor's report says which device uses it.
//!
//! | module | what it does |
//! |---|---|
//! | `device` | transfers |
//! | `object` | memory of user mode in runs of whole leaf tables |

mod device;
#[cfg(feature = "raw")]
mod fault_injection;
mod object;

pub use device::{Device, Io};
pub use object::{Object, RUN_PAGES};
