//! The shim and the validator in one process: the guest's half of the bargain against the
//! hypervisor's, with nothing between them but a model of a processor whose TLB forgets only when
//! it is told to.
#![expect(unsafe_code, reason = "tests load roots of a model, where no memory depends on them")]

mod alias_upcall;
mod blocks;
mod buffer;
mod buffer_cache;
mod costs;
mod dma;
mod guest;
mod machine;
mod memory_types;
mod pageable;
mod random;
mod rmap;
mod rules;
mod table_pool;
