//! The shim on the validator, in one process. Between them is a model of a machine whose TLB keeps
//! every translation until it is flushed.
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
