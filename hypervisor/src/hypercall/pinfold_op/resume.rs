//! Continuations of commands that are preempted: their progress is in the call's arguments.

use crate::domain::vcpu::Args;
use crate::domain::vcpu::Vcpu;
use crate::hypercall::outcome::{Outcome, create_continuation};

/// Flag in the command's number: a restarted call, whose arguments after the second hold its
/// progress. In a new call they may hold anything. A guest that forges it only harms itself: all of
/// it is checked again.
const RESUMED: u64 = 1 << 63;

/// The command's number without the flag.
pub(super) const fn command(number: u64) -> u64 {
    number & !RESUMED
}

/// A command's progress, in words of its own; zeros at its beginning.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resume {
    pub(super) next: u64,
    pub(super) done: u64,
    pub(super) more: u64,
}

impl Resume {
    /// Reads it from the arguments.
    pub(super) fn of(args: &Args) -> Resume {
        if args[0] & RESUMED == 0 {
            return Resume::default();
        }
        Resume { next: args[2], done: args[3], more: args[4] }
    }

    /// Preempts the command: it continues from here.
    pub(super) fn suspend(self, vcpu: &mut Vcpu, args: &Args) -> Outcome {
        create_continuation(vcpu, [args[0] | RESUMED, args[1], self.next, self.done, self.more])
    }
}
