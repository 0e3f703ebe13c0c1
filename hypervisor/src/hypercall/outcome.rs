//! What comes of a hypercall.

use crate::domain::exit::Fatal;
use crate::domain::vcpu::{Args, Vcpu};
use pinfold_abi::errno::Errno;

/// Suspends a call: it is executed again with these arguments.
pub fn create_continuation(vcpu: &mut Vcpu, args: Args) -> Outcome {
    vcpu.resume = args;
    Outcome::Restart
}

/// How a call came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With this result for rax.
    Done(i64),
    /// Not finished: execute it again, with the arguments in [`Vcpu::resume`].
    Restart,
    /// Not finished: the guest is told of an alias first, and executes it again, with the arguments
    /// in [`Vcpu::resume`].
    Upcall,
    /// With the guest's registers set by the call itself.
    RegistersSet,
    /// With a result, and the vCPU gives the processor away.
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
