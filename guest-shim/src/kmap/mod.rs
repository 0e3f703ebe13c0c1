//! Single frames mapped for a short time.
//!
//! Persistent slots keep a frame mapped after its last user is gone, in case it is wanted again: a
//! cache of mappings, each of which may become a stray alias. Atomic slots are two per CPU, for
//! copying from one frame to another; they too keep their last mapping until they are used again,
//! or until a pin clears it, unless the caller has them cleared at once.
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
//! let frame = mmu.alloc_frame().unwrap();
//! let mapped = mmu.kmap(frame).unwrap();
//! mmu.store(mapped.va(), 42);
//! mmu.kunmap(mapped);
//!
//! // The slot still maps the frame: the next use costs no hypercall.
//! let again = mmu.kmap(frame).unwrap();
//! assert_eq!(mmu.load(again.va()), 42);
//! assert_eq!(mmu.stats().kmaps, 1);
//! mmu.kunmap(again);
//!
//! // Copying from frame to frame, through the slots of CPU 0.
//! let copy = mmu.alloc_frame().unwrap();
//! mmu.copy_frame(0, frame, copy).unwrap();
//! assert_eq!(mmu.read(copy, 0), 42);
//! ```

mod atomic;
mod persistent;
mod slots;

pub use atomic::Pair;
pub use persistent::Mapped;
pub(crate) use slots::Kmap;
