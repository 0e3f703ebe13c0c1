//! Results, and what they must be: counted, and said when they are wrong.

use crate::entry::Boot;
use crate::entry::catch::Trap;
use crate::hypercall::Errno;
use crate::hypercall::sched::Exit;
use core::fmt::Debug;
use pinfold_abi::errno::Errno as Known;

/// Counts results.
#[derive(Debug)]
pub struct Check {
    guest: &'static str,
    on_xen: bool,
    tried: u32,
    wrong: u32,
}

/// What the two hypervisors answer where they differ on purpose; `None` is success.
#[derive(Clone, Copy, Debug)]
pub struct Differs {
    /// Debian's Xen 4.17, with the guest as its first domain.
    pub xen: Option<Known>,
    /// Pinfold.
    pub pinfold: Option<Known>,
    /// Why that is right.
    pub why: &'static str,
}

impl Check {
    /// For the guest of this name.
    pub fn new(guest: &'static str, boot: &Boot) -> Check {
        Check { guest, on_xen: boot.is_first_domain(), tried: 0, wrong: 0 }
    }

    /// Whether this is Xen.
    pub fn on_xen(&self) -> bool {
        self.on_xen
    }

    /// Checks that were wrong so far.
    pub fn wrong(&self) -> u32 {
        self.wrong
    }

    fn say(&mut self, what: &str, got: &dyn Debug, wanted: &dyn Debug) {
        self.wrong += 1;
        crate::println!("WRONG {}: {what}: {got:?} instead of {wanted:?}", self.guest);
    }

    /// Something that must be this.
    pub fn equal<T: Debug + PartialEq>(&mut self, what: &str, got: T, wanted: T) {
        self.tried += 1;
        if got != wanted {
            self.say(what, &got, &wanted);
        }
    }

    /// Something that must be so.
    pub fn holds(&mut self, what: &str, holds: bool) {
        self.equal(what, holds, true);
    }

    /// A number that must be in a range.
    pub fn within(&mut self, what: &str, got: u64, wanted: core::ops::RangeInclusive<u64>) {
        self.tried += 1;
        if !wanted.contains(&got) {
            self.say(what, &got, &wanted);
        }
    }

    /// A call that must succeed; what it gave.
    pub fn ok<T>(&mut self, what: &str, result: Result<T, Errno>) -> Option<T> {
        self.answer(what, result, None)
    }

    /// A call that must be refused with this error.
    pub fn refused<T>(&mut self, what: &str, result: Result<T, Errno>, wanted: Known) {
        self.answer(what, result, Some(wanted));
    }

    /// A call that the two hypervisors answer differently.
    pub fn differs<T>(
        &mut self,
        what: &str,
        result: Result<T, Errno>,
        wanted: Differs,
    ) -> Option<T> {
        let Differs { xen, pinfold, .. } = wanted;
        self.answer(what, result, if self.on_xen { xen } else { pinfold })
    }

    fn answer<T>(
        &mut self,
        what: &str,
        result: Result<T, Errno>,
        wanted: Option<Known>,
    ) -> Option<T> {
        self.tried += 1;
        let (given, errno) = match result {
            Ok(given) => (Some(given), 0),
            Err(Errno(errno)) => (None, errno),
        };
        if errno != wanted.map_or(0, Known::as_result) {
            let got = Errno(errno).known();
            match (got, errno) {
                (None, 0) => self.say(what, &"success", &wanted),
                (None, errno) => self.say(what, &errno, &wanted),
                (Some(got), _) => self.say(what, &got, &wanted),
            }
        }
        given
    }

    /// Something that must end in this exception.
    pub fn trap(&mut self, what: &str, result: Result<(), Trap>, vector: u8) {
        self.equal(what, result.err().map(|trap| trap.vector), Some(vector));
    }

    /// The last line, and how the guest ends.
    pub fn verdict(&self) -> Exit {
        let Check { guest, tried, wrong, .. } = self;
        let word = if *wrong == 0 && *tried > 0 { "pass" } else { "fail" };
        crate::println!("VERDICT {word} guest={guest} tried={tried} wrong={wrong}");
        if word == "pass" { Exit::PowerOff } else { Exit::Crash }
    }
}

/// A raw result as the typed calls give it.
pub fn result(raw: i64) -> Result<u64, Errno> {
    u64::try_from(raw).map_err(|_| Errno(raw))
}
