//! Hypercalls: one file a family, each a thin shell that decodes, calls and encodes.

pub mod alias_upcall;
pub mod callbacks;
pub mod console_io;
pub mod continuation;
pub mod debugreg;
pub mod descriptors;
pub mod dispatch;
pub mod event_channel_op;
pub mod flush;
pub mod grant_table_op;
pub mod iret;
pub mod memory_exchange;
pub mod memory_op;
pub mod mmu_update;
pub mod mmuext_op;
pub mod multicall;
pub mod outcome;
pub mod physdev_op;
pub mod pinfold_op;
pub mod sched_op;
pub mod segment_base;
pub mod update_va_mapping;
pub mod vcpu_initialise;
pub mod vcpu_op;
pub mod version;
pub mod vm_assist;
