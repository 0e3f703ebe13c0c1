//! Why one element of a list call, or one step of a trap, did not finish.

use super::hooks::pinfold_report_refusal;
use super::vcpu::Vcpu;
use pinfold_abi::errno::Errno;
use pinfold_validator::{Error, Refusal};

/// Why an element ended the list.
pub enum ElementStop {
    /// With an error of the ABI.
    Errno(Errno),
    /// Preempted; the same element continues when the call is restarted.
    Preempted,
    /// An alias upcall is delivered first; the same element is tried again after it.
    Upcall,
}

impl From<Errno> for ElementStop {
    fn from(errno: Errno) -> ElementStop {
        ElementStop::Errno(errno)
    }
}

impl From<Refusal> for ElementStop {
    fn from(refusal: Refusal) -> ElementStop {
        ElementStop::Errno(refusal.errno())
    }
}

impl From<Error> for ElementStop {
    fn from(stop: Error) -> ElementStop {
        match stop {
            Error::Refused(refusal) => refusal.into(),
            Error::Preempted => ElementStop::Preempted,
        }
    }
}

impl ElementStop {
    /// For a refused element: preempted if the frame is only busy, else the error of the refusal,
    /// which is reported.
    pub fn refused(vcpu: &Vcpu, refusal: &Refusal) -> ElementStop {
        if vcpu.work.may_retry(refusal) {
            return ElementStop::Preempted;
        }
        pinfold_report_refusal(vcpu, refusal);
        (*refusal).into()
    }
}
