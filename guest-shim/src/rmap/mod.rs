//! Reverse map: from a frame to every entry that maps it, in all address spaces of the guest.
//!
//! To move the contents of a frame, no CPU may access it meanwhile by whatever address.
//! [`Mmu::unmap_everywhere`](crate::mmu::Mmu::unmap_everywhere) finds the mappings in this map and
//! clears all of them with one flush: areas and slots, dead or alive, and the entries of page
//! tables. The next access faults, and waits until the move is over if the kernel handles page
//! faults so (`entry::moving`).
//!
//! The map is updated wherever the shim writes an entry. It has a cost for each mapping, so it is
//! kept only if the kernel enables it ([`Mmu::enable_rmap`](crate::mmu::Mmu::enable_rmap)).
//! [`Mmu::check_rmap`](crate::mmu::Mmu::check_rmap) compares it with what the hypervisor finds.
//!
//! The direct map is not in it: whoever moves a frame copies it through the direct map.

mod check;
mod map;

pub use check::Difference;
pub(crate) use check::Subject;
pub(crate) use map::{Mapping, Rmap};
