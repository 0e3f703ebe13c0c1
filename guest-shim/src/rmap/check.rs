//! The reverse map against the mappings that the hypervisor finds in the tables.

use super::map::{Mapping, Rmap};
use crate::addr::{Index, Mfn, Pfn, Vaddr};
use crate::frames::FrameSet;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use pinfold_abi::pinfold::{MAPPING_ATTACHED, Mapping as Found};

/// Bytes of a page-table entry.
const ENTRY_SIZE: u64 = size_of::<u64>() as u64;

/// An entry that only one of the two has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// The hypervisor found it; the map does not have it.
    Missing {
        /// The frame that is mapped.
        frame: Pfn,
        /// Where, if its table is linked into an address space.
        va: Option<Vaddr>,
        /// Its table.
        table: Mfn,
        /// Its index in the table.
        index: u16,
    },
    /// The map has it; the hypervisor did not find it.
    Surplus {
        /// The frame that is mapped.
        frame: Pfn,
        /// Where.
        va: Vaddr,
        /// Its table.
        table: Mfn,
        /// Its index in the table.
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

/// A frame to compare the views of.
pub(crate) struct Subject {
    pub(crate) pfn: Pfn,
    pub(crate) mfn: Mfn,
    /// Where the direct map maps it: not a matter of the reverse map.
    pub(crate) direct_map_va: Vaddr,
}

impl Rmap {
    /// Compares the map with the mappings of these frames that the hypervisor found. Entries of
    /// tables that are not in use do not matter.
    pub(crate) fn compare(&self, frames: &[Subject], found: &[Found]) -> Vec<Difference> {
        let mut differences = Vec::new();
        let set: FrameSet = frames.iter().map(|frame| frame.pfn).collect();
        let known = self.of(&set).into_iter().filter(|mapping| self.is_in_use(mapping.ptr));
        let mut known: BTreeMap<u64, Mapping> = known.map(|m| (m.ptr, m)).collect();
        // A table may be linked in several places: its entry is found once for each.
        let mut seen: Vec<u64> = Vec::new();
        for mapping in found {
            let (table, index) = (Mfn(mapping.table), mapping.index);
            let ptr = table.entry_address(Index::new_truncate(index.into()));
            let subject = frames.iter().find(|frame| frame.mfn.0 == mapping.frame);
            let Some(&Subject { pfn: frame, direct_map_va, .. }) = subject else { continue };
            let attached = mapping.flags & MAPPING_ATTACHED != 0;
            let va = attached.then_some(Vaddr(mapping.va));
            if va == Some(direct_map_va) || seen.contains(&ptr) {
                continue;
            }
            seen.push(ptr);
            if known.remove(&ptr).is_none() {
                differences.push(Difference::Missing { frame, va, table, index });
            }
        }
        differences.extend(known.into_values().map(|Mapping { ptr, frame, va, .. }| {
            let index = Index::new_truncate(ptr / ENTRY_SIZE).get() as u16;
            Difference::Surplus { frame, va, table: Mfn::from_address(ptr), index }
        }));
        differences
    }
}
