//! Checks of the results of forbidden calls.

use pinfold_abi::errno::Errno;
use pinfold_guest::entry::Boot;
use pinfold_guest::entry::catch::Trap;
use pinfold_guest::fixtures::in_ring3;
use pinfold_guest::println;

/// The expected result.
#[derive(Clone, Copy)]
pub(crate) enum Expect {
    /// It is refused with this error.
    Refused(Errno),
    /// It is refused with this error in ring 3; in the container there is no such call.
    InRing3(Errno),
    /// It succeeds: it is allowed, or prepares the next check.
    Done,
    /// The two hypervisors differ, for this reason.
    Differs { xen: i64, pinfold: i64, why: &'static str },
}

/// Counts checks, and prints those that fail.
pub(crate) struct Check {
    on_xen: bool,
    pub(crate) tried: u32,
    pub(crate) wrong: u32,
}

impl Check {
    pub(crate) fn new(boot: &Boot) -> Check {
        Check { on_xen: boot.is_first_domain(), tried: 0, wrong: 0 }
    }

    /// Checks the result of a hypercall.
    pub(crate) fn call(&mut self, what: &str, result: i64, expect: Expect) {
        let (wanted, why) = match expect {
            Expect::Refused(errno) => (errno.as_result(), ""),
            Expect::InRing3(errno) => (in_ring3(errno).as_result(), ""),
            Expect::Done => (0, ""),
            Expect::Differs { xen, pinfold, why } => (if self.on_xen { xen } else { pinfold }, why),
        };
        self.tried += 1;
        if result != wanted {
            self.wrong += 1;
            println!("HOSTILE wrong: {what}: {result} instead of {wanted} {why}");
        }
    }

    /// Checks a condition.
    pub(crate) fn holds(&mut self, what: &str, holds: bool) {
        self.tried += 1;
        if !holds {
            self.wrong += 1;
            println!("HOSTILE wrong: {what}: it does not hold");
        }
    }

    /// Checks that an access ended in this exception.
    pub(crate) fn trap(&mut self, what: &str, result: Result<(), Trap>, vector: u8) {
        self.tried += 1;
        match result {
            Err(trap) if trap.vector == vector => {}
            Err(trap) => {
                self.wrong += 1;
                println!("HOSTILE wrong: {what}: exception {} instead of {vector}", trap.vector);
            }
            Ok(()) => {
                self.wrong += 1;
                println!("HOSTILE wrong: {what}: no exception");
            }
        }
    }
}
