//! Domains: what they own, how they start, run and end.

pub mod alias_search;
pub mod alias_upcall;
pub mod assists;
pub mod bounce;
pub mod container;
pub mod context;
pub mod debug_registers;
pub mod descriptors;
pub mod domain_state;
pub mod element_stop;
pub mod exit;
mod hooks;
pub mod ldt;
pub mod lifecycle;
pub mod list;
pub mod per_domain;
pub mod regions;
pub mod roots;
pub mod runstate;
pub mod scheduler;
pub mod shared_page;
pub mod shutdown_reason;
pub mod stats;
pub mod timers;
pub mod vcpu;
pub mod vcpu_info;
pub mod vcpu_slot;
pub mod vcpu_timers;
pub mod work;

pub use domain_state::{Domain, DomainRef};
pub use list::{after, all, find, list, unlist};
pub use vcpu_slot::VcpuSlot;
