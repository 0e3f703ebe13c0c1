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
//!
//! ```
//! # use pinfold_guest::addr::Vaddr;
//! # use pinfold_guest::host::Machine;
//! # use pinfold_guest::mmu::{Config, Mmu};
//! # let machine = Machine::new(64);
//! # let free = machine.free_frames();
//! # let config = Config {
//! #     vmap_start: Vaddr(0xffff_c000_0000_0000),
//! #     vmap_pages: 512,
//! #     kmap_start: Vaddr(0xffff_d000_0000_0000),
//! #     kmap_slots: 16,
//! #     cpus: 1,
//! #     policy: pinfold_guest::vmap::Policy::Targeted,
//! #     table_pool: 0,
//! # };
//! # let mut mmu = Mmu::new(machine, free, &config).unwrap();
//! mmu.enable_rmap().unwrap();
//! let (old, new) = (mmu.alloc_frame().unwrap(), mmu.alloc_frame().unwrap());
//! let area = mmu.vmap(&[old]).unwrap();
//! mmu.store(area.start(), 42);
//!
//! // The contents move to another frame; the area maps that one afterwards.
//! let mut unmapped = mmu.unmap_everywhere(&[old]).unwrap();
//! unmapped.copy(&[new]);
//! assert_eq!(unmapped.map(&[new]), Ok(1));
//! assert_eq!(mmu.load(area.start()), 42);
//! assert_eq!(mmu.read(new, 0), 42);
//!
//! // The map agrees with the tables.
//! assert_eq!(mmu.check_rmap(&[old, new]), Ok(vec![]));
//! # mmu.vunmap(area).unwrap();
//! ```

mod check;
mod map;

pub use check::Difference;
pub(crate) use check::Subject;
pub(crate) use map::{Mapping, Rmap};
