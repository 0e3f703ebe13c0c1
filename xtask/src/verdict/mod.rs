//! What a run came to, read from its serial log.
//!
//! Success must be said, never assumed: on Pinfold by the final END record AND by QEMU's exit
//! status, which must agree; on Xen by the guest's own VERDICT line or by Xen's word that the
//! guest powered off. Anything else, an early exit of QEMU above all, is a failure.
//!
//! | file | about |
//! |---|---|
//! | `pinfold` | Pinfold's records |
//! | `xen` | the guest's lines and Xen's, as plain text |

pub(crate) mod pinfold;
pub(crate) mod xen;

use crate::cli::Host;
use crate::exit::Exit;
use crate::machine::Ended;
use pinfold_abi::record::{self, Record, kind};

/// How a run ended, and why it is said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The exit status.
    pub(crate) exit: Exit,
    /// One line for people.
    pub(crate) why: String,
}

impl Verdict {
    fn new(exit: Exit, why: impl Into<String>) -> Verdict {
        Verdict { exit, why: why.into() }
    }

    /// The run was ended by the person who watched it.
    pub(crate) fn quit() -> Verdict {
        Verdict::new(Exit::Ok, trouble(&Ended::Quit))
    }

    /// True if all ended well.
    pub(crate) fn is_ok(&self) -> bool {
        self.exit == Exit::Ok
    }
}

/// What a guest says of itself at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// `VERDICT pass ...`
    Pass(String),
    /// `VERDICT fail ...`
    Fail(String),
}

impl Said {
    /// Reads a line of a guest.
    pub(crate) fn read(line: &str) -> Option<Said> {
        let verdict = record::Verdict::parse(line)?;
        let figures = verdict.figures.into();
        // A verdict that is not a pass is a failure, whatever its word.
        Some(if verdict.passed { Said::Pass(figures) } else { Said::Fail(figures) })
    }
}

/// What the guest printed, if this line of the log is its.
pub(crate) fn printed(on: Host, line: &str) -> Option<&str> {
    match on {
        Host::Pinfold => {
            Record::parse(line).filter(|record| record.head.kind == kind::CONSOLE).map(|r| r.body)
        }
        Host::Xen => (!line.starts_with("(XEN)")).then_some(line),
    }
}

/// QEMU's end in words, where it is not what it should be.
fn trouble(ended: &Ended) -> String {
    match ended {
        Ended::Exited(Some(0), _) => {
            "the machine was reset or powered off before the run's last record (a triple fault?)"
                .into()
        }
        Ended::Exited(Some(status), errors) => {
            let errors = errors.trim();
            if errors.is_empty() {
                format!("QEMU exited with status {status} before the run's last record")
            } else {
                format!("QEMU exited with status {status}: {errors}")
            }
        }
        Ended::Exited(None, errors) => format!("QEMU was killed: {}", errors.trim()),
        Ended::Enough => "the run was ended before its last record".into(),
        Ended::TimedOut => "the time limit ran out".into(),
        Ended::Quit => "the run was ended from the keyboard".into(),
    }
}
