//! The outcome of a hypercall.

use crate::domain::exit::Fatal;
use crate::domain::vcpu::{Args, Vcpu};
use pinfold_abi::errno::Errno;

/// Preempts a call: the guest executes it again, with these arguments.
pub fn create_continuation(vcpu: &mut Vcpu, args: Args) -> Outcome {
    vcpu.resume = args;
    Outcome::Restart
}

/// The outcome of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done, with this result for rax.
    Done(i64),
    /// Preempted: it is executed again, with the arguments in [`Vcpu::resume`].
    Restart,
    /// An alias upcall is delivered first; then the call is executed again, with the arguments in
    /// [`Vcpu::resume`].
    Upcall,
    /// Done, and the call has set the guest's registers itself.
    RegistersSet,
    /// Done, with this result for rax, and the vCPU yields its CPU.
    Yield(i64),
    /// The domain ends.
    Fatal(&'static str),
}

impl From<Result<i64, Errno>> for Outcome {
    fn from(result: Result<i64, Errno>) -> Outcome {
        Outcome::Done(result.unwrap_or_else(Errno::as_result))
    }
}

impl From<Result<(), Errno>> for Outcome {
    fn from(result: Result<(), Errno>) -> Outcome {
        result.map(|()| 0).into()
    }
}

impl From<Result<(), Fatal>> for Outcome {
    fn from(result: Result<(), Fatal>) -> Outcome {
        match result {
            Ok(()) => Outcome::RegistersSet,
            Err(Fatal(why)) => Outcome::Fatal(why),
        }
    }
}
