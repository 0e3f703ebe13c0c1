//! Commands that are suspended: where they go on is in the call's arguments.

use crate::domain::vcpu::Args;
use crate::domain::vcpu::Vcpu;
use crate::hypercall::outcome::{Outcome, create_continuation};

/// Bit of the command's number that says: resumed, the arguments behind the second say where to go
/// on. In a new call they may hold anything. A guest that forges it fools only itself: all of it is
/// checked again.
const RESUMED: u64 = 1 << 63;

/// The command's own number.
pub(super) const fn command(number: u64) -> u64 {
    number & !RESUMED
}

/// Where a command goes on; zeros at its beginning. What the words mean is the command's business.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Resume {
    pub(super) next: u64,
    pub(super) done: u64,
    pub(super) more: u64,
}

impl Resume {
    /// As the arguments have it.
    pub(super) fn of(args: &Args) -> Resume {
        if args[0] & RESUMED == 0 {
            return Resume::default();
        }
        Resume { next: args[2], done: args[3], more: args[4] }
    }

    /// Suspends the command: it goes on from here.
    pub(super) fn suspend(self, vcpu: &mut Vcpu, args: &Args) -> Outcome {
        create_continuation(vcpu, [args[0] | RESUMED, args[1], self.next, self.done, self.more])
    }
}
