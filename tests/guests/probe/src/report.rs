//! Answers: printed as `PROBE key=value`, compared with the table of expected ones.

use crate::expected;
use arrayvec::ArrayString;
use core::fmt::{self, Display, Write};
use pinfold_guest::entry::catch::Trap;
use pinfold_guest::hypercall::Errno;
use pinfold_guest::println;

/// Which hypervisor answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Referee {
    /// A stock Xen, which runs the probe as its first domain.
    Xen,
    /// Pinfold.
    Pinfold,
}

/// Collects the answers.
pub(crate) struct Report {
    referee: Referee,
    /// Print answers as entries of the expected table.
    table: bool,
    /// Answers given.
    pub(crate) answers: u32,
    /// Answers that are not the expected ones.
    pub(crate) wrong: u32,
    /// Answers that the table says nothing about.
    pub(crate) unknown: u32,
}

impl Report {
    pub(crate) fn new(referee: Referee, table: bool) -> Report {
        Report { referee, table, answers: 0, wrong: 0, unknown: 0 }
    }

    /// One answer.
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
        match expected::find(key).map(|known| known.check(self.referee, &text)) {
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

    /// The answer of a hypercall: `ok`, `ok(n)` or the error's name.
    pub(crate) fn call(&mut self, key: &str, result: i64) {
        self.say(key, Answer(result));
    }

    /// How an instruction ended: its value, or the trap.
    pub(crate) fn trap<T: Display>(&mut self, key: &str, result: Result<T, Trap>) {
        match result {
            Ok(value) => self.say(key, value),
            Err(trap) => self.say(key, Trapped(trap)),
        }
    }
}

/// A hypercall's result in words.
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

/// A trap in words.
pub(crate) struct Trapped(pub Trap);

impl Display for Trapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}({:#x})", self.0.vector, self.0.error)
    }
}
