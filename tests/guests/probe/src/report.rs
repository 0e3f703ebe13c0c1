//! Answers: printed as `PROBE key=value`, and compared with the expected ones.

use crate::expected;
use arrayvec::ArrayString;
use core::fmt::{self, Display, Write};
use pinfold_guest::entry::catch::Trap;
use pinfold_guest::hypercall::Errno;
use pinfold_guest::println;

/// The hypervisor that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hypervisor {
    /// A stock Xen, which runs the guest as its first domain.
    Xen,
    /// Pinfold.
    Pinfold,
}

/// Flags in the frame of an exception that are not compared: the arithmetic ones are those that the
/// code before left, and RF is set at a fault by processors (Intel SDM vol. 3, 18.3.1.1) and KVM, and
/// not by QEMU's translator.
pub(crate) const UNSTEADY_FLAGS: u64 = 0x1_08d5;

/// Counts the answers.
pub(crate) struct Report {
    hypervisor: Hypervisor,
    /// Print the answers as entries of the expected table.
    table: bool,
    /// Answers so far.
    pub(crate) answers: u32,
    /// Answers that differ from the expected ones.
    pub(crate) wrong: u32,
    /// Answers that the table doesn't have.
    pub(crate) unknown: u32,
}

impl Report {
    pub(crate) fn new(hypervisor: Hypervisor, table: bool) -> Report {
        Report { hypervisor, table, answers: 0, wrong: 0, unknown: 0 }
    }

    /// Reports one answer.
    pub(crate) fn say(&mut self, key: &str, value: impl Display) {
        let mut text = ArrayString::<160>::new();
        if write!(text, "{value}").is_err() {
            println!("PROBE {key}: the answer is too long");
            self.wrong += 1;
        }
        self.answers += 1;
        if self.table {
            println!("    same(\"{key}\", \"{text}\"),");
            return;
        }
        match expected::find(key).map(|known| known.check(self.hypervisor, &text)) {
            None => {
                self.unknown += 1;
                println!("PROBE {key}={text} UNKNOWN");
            }
            Some(Ok(())) => println!("PROBE {key}={text}"),
            Some(Err((wanted, why))) => {
                self.wrong += 1;
                println!("PROBE {key}={text} WRONG expected={wanted} ({why})");
            }
        }
    }

    /// Reports a hypercall's answer: `ok`, `ok(n)` or the name of the error.
    pub(crate) fn call(&mut self, key: &str, result: i64) {
        self.say(key, Answer(result));
    }

    /// Reports how an instruction ended: with a value, or a trap.
    pub(crate) fn trap<T: Display>(&mut self, key: &str, result: Result<T, Trap>) {
        match result {
            Ok(value) => self.say(key, value),
            Err(trap) => self.say(key, Trapped(trap)),
        }
    }
}

/// Displays a hypercall's result.
pub(crate) struct Answer(pub i64);

impl Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("ok"),
            1.. => write!(f, "ok({:#x})", self.0),
            _ => Errno(self.0).fmt(f),
        }
    }
}

/// Displays a trap.
pub(crate) struct Trapped(pub Trap);

impl Display for Trapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}({:#x})", self.0.vector, self.0.error)
    }
}
