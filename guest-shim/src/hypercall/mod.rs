//! The hypercalls that a guest kernel may make whatever state it is in: they change no mapping.
//!
//! What changes mappings goes through the MMU's owner, which keeps its promises only because
//! there is no way around it.
#![expect(
    unsafe_code,
    reason = "the hypercall instruction: the hypervisor reads and writes what its arguments point to"
)]

mod raw;

pub mod console;
pub mod event;
pub mod pinfold;
pub mod sched;
pub mod vcpu;
pub mod version;

pub(crate) use raw::{address, call, check};

/// A hypercall's refusal: an error number, known by name or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i64);

impl Errno {
    /// The number as the ABI names it.
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
