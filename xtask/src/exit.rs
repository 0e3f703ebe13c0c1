//! How `cargo xtask` ends: one number for each thing that a script may want to tell apart.

use std::process::ExitCode;

/// The exit status of `cargo xtask`. 2 is left to the command line parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All guests ended well (or: all tests passed).
    Ok = 0,
    /// `test`: at least one test failed.
    TestsFailed = 1,
    /// A guest reported failure.
    GuestFailed = 10,
    /// A guest was ended by the hypervisor.
    GuestCrashed = 11,
    /// A guest's image was refused; it never ran.
    GuestNotStarted = 12,
    /// The hypervisor panicked, or its own audit found an error.
    Panicked = 13,
    /// The time limit ran out.
    TimedOut = 14,
    /// QEMU, a build or this machine made trouble: nothing is known about the guests.
    Host = 15,
    /// `--deny-aliases`: the guests ended by themselves, but at least one alias was met.
    Aliases = 16,
}

/// The table of exit codes, as `--help` shows it.
pub(crate) const TABLE: &str = "\
Exit status:
   0  all guests ended well (run), all tests passed (test)
   1  a test failed (test)
   2  the command line was wrong
  10  a guest reported failure
  11  a guest crashed
  12  a guest's image was refused and never ran
  13  the hypervisor panicked, or its own audit found an error
  14  the time limit ran out
  15  QEMU, a build or this machine made trouble: nothing is known about the guests
  16  an alias was met, and --deny-aliases was given";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_code() {
        for exit in [
            Exit::Ok,
            Exit::TestsFailed,
            Exit::GuestFailed,
            Exit::GuestCrashed,
            Exit::GuestNotStarted,
            Exit::Panicked,
            Exit::TimedOut,
            Exit::Host,
            Exit::Aliases,
        ] {
            let number = format!("{:>4}  ", exit as u8);
            assert!(TABLE.lines().any(|line| line.starts_with(&number)), "{exit:?}");
        }
    }
}
