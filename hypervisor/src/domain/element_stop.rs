//! Why one element of a list call, or one step of a trap, did not finish.

use super::hooks::pinfold_report_refusal;
use super::vcpu::Vcpu;
use pinfold_abi::errno::Errno;
use pinfold_validator::{Error, Refusal};

/// Why an element ended the list.
pub enum ElementStop {
    /// With an error of the ABI.
    Errno(Errno),
    /// Its time is up in the middle; the same element goes on next time.
    Preempted,
    /// The guest is to be told what it met; the same element is tried again after that.
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
    /// What a refused element comes to: it is tried again, if all that is in the way is that others
    /// are at the frame; else the refusal is reported.
    pub fn refused(vcpu: &Vcpu, refusal: &Refusal) -> ElementStop {
        if vcpu.work.may_retry(refusal) {
            return ElementStop::Preempted;
        }
        pinfold_report_refusal(vcpu, refusal);
        (*refusal).into()
    }
}
