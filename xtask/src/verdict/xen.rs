//! What a run on Xen came to. There the guest's console is plain text among Xen's own lines.

use super::{Said, Verdict, trouble};
use crate::exit::Exit;
use crate::machine::{Ended, Watch};

/// What the log said so far. Feed it every line, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// What the guest said of itself.
    pub(crate) said: Option<Said>,
    /// Xen says that the guest powered off.
    pub(crate) powered_off: bool,
    /// Xen says that the guest is gone in disorder, by its own word if `crashed` is empty.
    pub(crate) gave_up: bool,
    /// Xen's words on how the guest was ended.
    pub(crate) crashed: Option<String>,
    /// Xen's words on why it could not build the guest, or on its own panic.
    pub(crate) panic: Option<String>,
}

impl Facts {
    /// Takes one line; says whether the run has come to its end. Xen halts the processors then,
    /// and QEMU would run on.
    pub(crate) fn line(&mut self, line: &str) -> Watch {
        let Some(xen) = line.strip_prefix("(XEN) ") else {
            if let Some(said) = Said::read(line) {
                self.said = Some(said);
            }
            return Watch::On;
        };
        let xen = xen.trim();
        // A log level's time stamp may stand before the words.
        let words = match xen.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            Some((_, words)) => words,
            None => xen,
        };
        if words.starts_with("Panic on CPU") {
            self.panic = Some(words.into());
            return Watch::On;
        }
        // The words of the panic follow on the next line, then rows of stars, then this.
        if words.starts_with("Manual reset required") || words.starts_with("Reboot in ") {
            return Watch::Enough;
        }
        if let Some(panic) = &mut self.panic
            && panic.ends_with(':')
            && !words.is_empty()
        {
            panic.push(' ');
            panic.push_str(words);
        }
        // Also the end of a guest that shut down with the reason "crash": it reports a failure.
        if words.starts_with("Hardware Dom0 crashed") {
            self.gave_up = true;
            return Watch::Enough;
        }
        if words.starts_with("Domain 0 (vcpu#") && words.contains("crashed") {
            self.crashed = Some(words.trim_end_matches(':').into());
        }
        // The last one: the guest switched the machine off by itself, as Linux does.
        if words.starts_with("Hardware Dom0 halted")
            || words.starts_with("Hardware Dom0 shutdown")
            || words.starts_with("Entering ACPI S5 state")
        {
            self.powered_off = true;
            return Watch::Enough;
        }
        Watch::On
    }
}

/// Judges a run.
pub(crate) fn judge(facts: &Facts, ended: &Ended) -> Verdict {
    if let Some(crash) = &facts.crashed {
        return Verdict::new(Exit::GuestCrashed, format!("the guest crashed: {crash}"));
    }
    match (&facts.said, facts.powered_off, &facts.panic) {
        (_, _, Some(panic)) => Verdict::new(Exit::Panicked, format!("Xen panicked: {panic}")),
        (Some(Said::Fail(figures)), ..) => {
            Verdict::new(Exit::GuestFailed, format!("the guest reported failure: {figures}"))
        }
        _ if facts.gave_up => {
            Verdict::new(Exit::GuestFailed, "the guest shut down with the reason `crash`")
        }
        (Some(Said::Pass(figures)), true, None) => {
            Verdict::new(Exit::Ok, format!("the guest passed: {figures}"))
        }
        (None, true, None) => Verdict::new(Exit::Ok, "the guest powered off (it gave no verdict)"),
        _ if *ended == Ended::TimedOut => Verdict::new(Exit::TimedOut, trouble(ended)),
        _ => Verdict::new(Exit::Host, trouble(ended)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(log: &str, ended: &Ended) -> Exit {
        let mut facts = Facts::default();
        for line in log.lines() {
            if facts.line(line) == Watch::Enough {
                return judge(&facts, &Ended::Enough).exit;
            }
        }
        judge(&facts, ended).exit
    }

    #[test]
    fn a_pass_needs_the_orderly_end() {
        let quit = Ended::Exited(Some(0), String::new());
        let halted = "(XEN) Hardware Dom0 halted: halting machine";
        assert_eq!(judged(&format!("VERDICT pass n=1\n{halted}"), &quit), Exit::Ok);
        assert_eq!(judged(halted, &quit), Exit::Ok);
        assert_eq!(judged("(XEN) Entering ACPI S5 state.", &quit), Exit::Ok);
        assert_eq!(judged(&format!("VERDICT fail n=1\n{halted}"), &quit), Exit::GuestFailed);
        assert_eq!(judged("VERDICT pass n=1", &quit), Exit::Host);
        assert_eq!(judged("VERDICT pass n=1", &Ended::TimedOut), Exit::TimedOut);
        assert_eq!(judged("", &quit), Exit::Host);
    }

    #[test]
    fn crashes_and_panics_are_told_apart() {
        let quit = Ended::TimedOut;
        let crash = "VERDICT pass\n(XEN) Domain 0 (vcpu#0) crashed on cpu#0:\n(XEN) Hardware Dom0 crashed: rebooting machine in 5 seconds.";
        assert_eq!(judged(crash, &quit), Exit::GuestCrashed);
        let own = "(XEN) Hardware Dom0 crashed: rebooting machine in 5 seconds.";
        assert_eq!(judged(own, &quit), Exit::GuestFailed);
        let panic = "(XEN) Panic on CPU 0:\n(XEN) Could not construct domain 0\n(XEN) ****\n\n(XEN) Manual reset required ('noreboot' specified)";
        assert_eq!(judged(panic, &quit), Exit::Panicked);
    }
}
