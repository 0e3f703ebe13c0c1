//! The guest ABI of Pinfold, shared by the hypervisor and the guest kernels.
//!
//! The crate holds numbers, flags and fixed-layout structures, whose sizes and offsets are asserted
//! at compile time, and no logic except encoding and decoding. The ABI is Xen's x86-64 PV ABI as
//! published in its public headers (`xen/include/public`, MIT licence). Each module names the
//! headers that its numbers come from. Pinfold's extensions are one hypercall, [`pinfold`].
//!
//! All structures are little-endian with natural C alignment; every padding byte is a named field,
//! so that a structure can be converted to bytes and back without `unsafe`.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::cast_possible_truncation))]

pub mod address;
pub mod console;
pub mod cpuid;
pub mod direct_start;
pub mod domid;
pub mod elfnote;
pub mod errno;
pub mod event;
pub mod frame_map;
pub mod grant;
pub mod hvm;
pub mod hypercall;
pub mod layout;
pub mod memory;
pub mod mmu;
pub mod paging;
pub mod physdev;
pub mod pinfold;
pub mod record;
pub mod sched;
pub mod shared_info;
pub mod start_info;
pub mod trap;
pub mod vcpu;
pub mod version;

/// Asserts the size of a structure and the offsets of its fields, in bytes, at compile time.
macro_rules! assert_layout {
    ($type:ty, size $size:expr $(, $field:ident @ $offset:expr)* $(,)?) => {
        const _: () = {
            assert!(core::mem::size_of::<$type>() == $size);
            $(assert!(core::mem::offset_of!($type, $field) == $offset);)*
        };
    };
}
pub(crate) use assert_layout;
