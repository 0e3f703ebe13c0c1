//! What is known: each answer as measured on Debian's Xen 4.17, and where Pinfold is different on
//! purpose.

mod calls;
mod cpu;
mod mmu;
mod start;

use crate::report::Referee;

/// One known answer.
pub(crate) struct Expected {
    pub(crate) key: &'static str,
    xen: &'static str,
    pinfold: Pinfold,
}

/// What Pinfold answers.
enum Pinfold {
    /// As Xen does.
    Same,
    /// Something else, for a reason.
    Differs(&'static str, &'static str),
    /// Whatever the CPU or the build makes of it; so on Xen.
    Any,
}

impl Expected {
    /// Whether an answer is a right one; if not, what it should have been and why.
    pub(crate) fn check(
        &self,
        referee: Referee,
        answer: &str,
    ) -> Result<(), (&'static str, &'static str)> {
        let (wanted, why) = match (&self.pinfold, referee) {
            (Pinfold::Any, _) => return Ok(()),
            (Pinfold::Differs(wanted, why), Referee::Pinfold) => (*wanted, *why),
            _ => (self.xen, "as measured on Xen"),
        };
        if answer == wanted { Ok(()) } else { Err((wanted, why)) }
    }
}

const fn same(key: &'static str, xen: &'static str) -> Expected {
    Expected { key, xen, pinfold: Pinfold::Same }
}

const fn differs(
    key: &'static str,
    xen: &'static str,
    pinfold: &'static str,
    why: &'static str,
) -> Expected {
    Expected { key, xen, pinfold: Pinfold::Differs(pinfold, why) }
}

const fn any(key: &'static str, xen: &'static str) -> Expected {
    Expected { key, xen, pinfold: Pinfold::Any }
}

/// What is known of an answer.
pub(crate) fn find(key: &str) -> Option<&'static Expected> {
    [start::TABLE, calls::TABLE, mmu::TABLE, cpu::TABLE]
        .into_iter()
        .flatten()
        .find(|expected| expected.key == key)
}
