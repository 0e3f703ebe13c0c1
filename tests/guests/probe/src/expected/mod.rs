//! The expected answers: as measured on Debian's Xen 4.17, and where Pinfold differs on purpose.

mod calls;
mod cpu;
mod mmu;
mod start;

use crate::report::Hypervisor;

/// An expected answer.
pub(crate) struct Expected {
    pub(crate) key: &'static str,
    xen: &'static str,
    pinfold: Pinfold,
}

/// What Pinfold answers.
enum Pinfold {
    /// The same as Xen.
    Same,
    /// Something else, for this reason.
    Differs(&'static str, &'static str),
    /// Anything: it depends on the CPU or the build, on Xen too.
    Any,
}

impl Expected {
    /// Checks an answer. If it is wrong, returns the right one and the reason.
    pub(crate) fn check(
        &self,
        hypervisor: Hypervisor,
        answer: &str,
    ) -> Result<(), (&'static str, &'static str)> {
        let (wanted, why) = match (&self.pinfold, hypervisor) {
            (Pinfold::Any, _) => return Ok(()),
            (Pinfold::Differs(wanted, why), Hypervisor::Pinfold) => (*wanted, *why),
            _ => (self.xen, "as measured on Xen"),
        };
        if answer == wanted { Ok(()) } else { Err((wanted, why)) }
    }

    /// Returns key, Xen's answer, and Pinfold's where it differs, for the document that lists them.
    #[cfg(test)]
    pub(crate) fn columns(&self) -> [std::borrow::Cow<'static, str>; 3] {
        let pinfold = match self.pinfold {
            Pinfold::Same => "".into(),
            Pinfold::Differs(answer, why) => format!("`{answer}`: {why}").into(),
            Pinfold::Any => "depends on the CPU or the build".into(),
        };
        [self.key.into(), self.xen.into(), pinfold]
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

/// All answers, in the order of `docs/abi-answers.md`.
pub(crate) const TABLES: [&[Expected]; 4] = [start::TABLE, calls::TABLE, mmu::TABLE, cpu::TABLE];

/// Finds an expected answer.
pub(crate) fn find(key: &str) -> Option<&'static Expected> {
    TABLES.into_iter().flatten().find(|expected| expected.key == key)
}
