//! The memory type of each frame.

use crate::addr::Pfn;
use alloc::collections::BTreeMap;
pub use pinfold_abi::mmu::MemoryType;

/// The frames that are not write-back; usually few.
#[derive(Debug, Default)]
pub(crate) struct MemoryTypes(BTreeMap<Pfn, MemoryType>);

impl MemoryTypes {
    pub(crate) fn get(&self, pfn: Pfn) -> MemoryType {
        if self.0.is_empty() {
            return MemoryType::WriteBack;
        }
        self.0.get(&pfn).copied().unwrap_or_default()
    }

    pub(crate) fn set(&mut self, pfn: Pfn, memory: MemoryType) {
        if memory == MemoryType::WriteBack {
            self.0.remove(&pfn);
        } else {
            self.0.insert(pfn, memory);
        }
    }
}
