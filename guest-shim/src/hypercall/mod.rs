//! The hypercalls that change no mapping, typed.
//!
//! Calls that change mappings go through the [`Mmu`](crate::mmu::Mmu), which can keep its promise
//! only because there is no other way.
#![expect(
    unsafe_code,
    reason = "the hypercall instruction: the hypervisor reads and writes what its arguments point to"
)]

mod level;
mod raw;

pub mod console;
pub mod event;
pub mod hvm;
pub mod pinfold;
pub mod sched;
pub mod vcpu;
pub mod version;

#[cfg(all(feature = "entry", target_os = "none"))]
pub(crate) use level::IN_CONTAINER;
pub use level::in_container;
pub(crate) use raw::{address, call, check};

/// The negated error number of a refused hypercall, which the ABI may or may not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i64);

impl Errno {
    /// The error as the ABI names it.
    pub fn known(self) -> Option<pinfold_abi::errno::Errno> {
        pinfold_abi::errno::Errno::from_result(self.0)
    }
}

impl From<pinfold_abi::errno::Errno> for Errno {
    fn from(errno: pinfold_abi::errno::Errno) -> Errno {
        Errno(errno.as_result())
    }
}

impl PartialEq<pinfold_abi::errno::Errno> for Errno {
    fn eq(&self, other: &pinfold_abi::errno::Errno) -> bool {
        self.0 == other.as_result()
    }
}

impl core::fmt::Display for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.known() {
            Some(errno) => errno.fmt(f),
            None => write!(f, "{}", self.0),
        }
    }
}
