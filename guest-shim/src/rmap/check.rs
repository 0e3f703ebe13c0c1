//! The map, held against what the hypervisor finds in the tables.

use super::Mapping;
use crate::addr::{Index, Mfn, Pfn, Vaddr};
use crate::hypercall::Errno;
use crate::mmu::Mmu;
use crate::per_frame::FrameSet;
use crate::platform::Platform;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

/// Frames that the hypervisor is asked about at a time: it answers with so many mappings at most.
const AT_ONCE: usize = 4;

/// An entry about which the two disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The hypervisor found it, and the map doesn't have it.
    Missing {
        /// The frame that is mapped.
        frame: Pfn,
        /// Where, if its table hangs in an address space.
        va: Option<Vaddr>,
        /// Its table, and its place there.
        table: Mfn,
        /// Which entry of the table.
        index: u16,
    },
    /// The map has it, and the hypervisor didn't find it.
    Surplus {
        /// The frame that is mapped.
        frame: Pfn,
        /// Where.
        va: Vaddr,
        /// Its table, and its place there.
        table: Mfn,
        /// Which entry of the table.
        index: u16,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, frame, va, table, index) = match *self {
            Difference::Missing { frame, va, table, index } => ("missing", frame, va, table, index),
            Difference::Surplus { frame, va, table, index } => {
                ("surplus", frame, Some(va), table, index)
            }
        };
        write!(f, "RMAP {word} ")?;
        match va {
            Some(va) => write!(f, "va={va:#018x}")?,
            None => f.write_str("va=none")?,
        }
        write!(f, " pfn={frame} table={table} index={index}")
    }
}

impl<P: Platform> Mmu<P> {
    /// Where the reverse map and the hypervisor disagree about these frames: nowhere, if every
    /// mapping was made through the shim. Tables that are not in use are no matter of this.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal; -ENOSYS where it can't be asked.
    ///
    /// # Panics
    ///
    /// Without a reverse map; see [`enable_rmap`](Mmu::enable_rmap).
    pub fn check_rmap(&mut self, frames: &[Pfn]) -> Result<Vec<Difference>, Errno> {
        let mut differences = Vec::new();
        for some in frames.chunks(AT_ONCE) {
            self.check_some(some, &mut differences)?;
        }
        Ok(differences)
    }

    fn check_some(&mut self, frames: &[Pfn], out: &mut Vec<Difference>) -> Result<(), Errno> {
        let found = self.find_aliases(frames)?;
        let rmap = self.rmap.as_ref().expect("a reverse map is kept");
        let set: FrameSet = frames.iter().copied().collect();
        let known = rmap.of(&set).into_iter().filter(|mapping| rmap.is_in_use(mapping.ptr));
        let mut known: BTreeMap<u64, Mapping> = known.map(|m| (m.ptr, m)).collect();
        // A table may hang in several places; its entry is one all the same.
        let mut seen: Vec<u64> = Vec::new();
        for mapping in found {
            let (table, index) = (Mfn(mapping.table), mapping.index);
            let ptr = table.entry_address(Index::new_truncate(index.into()));
            let of = frames.iter().copied().find(|&pfn| self.mfn(pfn).0 == mapping.frame);
            let Some(frame) = of else { continue };
            let attached = mapping.flags & pinfold_abi::pinfold::MAPPING_ATTACHED != 0;
            let va = attached.then_some(Vaddr(mapping.va));
            if va == Some(self.direct_map_va(frame)) || seen.contains(&ptr) {
                continue;
            }
            seen.push(ptr);
            if known.remove(&ptr).is_none() {
                out.push(Difference::Missing { frame, va, table, index });
            }
        }
        out.extend(known.into_values().map(|Mapping { ptr, frame, va, .. }| {
            let index = (ptr / 8 % 512) as u16;
            Difference::Surplus { frame, va, table: Mfn(ptr >> 12), index }
        }));
        Ok(())
    }
}
