//! What a run on Pinfold came to.

use super::{Said, Verdict, trouble};
use crate::exit::Exit;
use crate::machine::{CODE_NOT_OK, CODE_OK, CODE_PANIC, Ended, debug_exit};
use pinfold_abi::record::{
    AuditSummary, Crash, CrashIdle, End, Event, Heap, Leftovers, NoStart, Record, Shutdown,
    Teardown, Text, Who, kind,
};
use std::collections::BTreeMap;

/// What the log said so far. Feed it every line, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// At least one record was seen: the hypervisor came up.
    pub(crate) alive: bool,
    /// Names of domains that could not be built, with the reason.
    pub(crate) refused: Vec<(String, String)>,
    /// Names of domains that ended by themselves, with the reason.
    pub(crate) shut_down: Vec<(String, String)>,
    /// Names of domains that the hypervisor ended, with the reason.
    pub(crate) crashed: Vec<(String, String)>,
    /// Domain numbers and the names of their START records.
    pub(crate) names: BTreeMap<u16, String>,
    /// What each domain said of itself, by its number.
    pub(crate) said: BTreeMap<u16, Said>,
    /// ALIAS records.
    pub(crate) aliases: u64,
    /// The first REFUSED record.
    pub(crate) refusal: Option<String>,
    /// The first AUDIT record that names something wrong.
    pub(crate) audit: Option<String>,
    /// The LATENCY records, one for each processor.
    pub(crate) latencies: Vec<String>,
    /// The first PANIC record's text.
    pub(crate) panic: Option<String>,
    /// The line before was a PANIC record.
    in_panic: bool,
    /// The END record.
    pub(crate) end: Option<End>,
}

impl Facts {
    /// Reads a whole log.
    #[cfg(test)]
    fn read(log: &str) -> Facts {
        let mut facts = Facts::default();
        log.lines().for_each(|line| facts.line(line));
        facts
    }

    /// Takes one line.
    pub(crate) fn line(&mut self, line: &str) {
        let Some(record) = Record::parse(line) else {
            // A panic's words go on where the source place ends.
            if let Some(panic) = &mut self.panic
                && self.in_panic
            {
                panic.push(' ');
                panic.push_str(line.trim());
            }
            return;
        };
        self.alive = true;
        self.in_panic = record.head.kind == kind::PANIC;
        let domain = match record.head.who {
            Who::Domain(domain) | Who::Vcpu(domain, _) => Some(domain),
            Who::Hypervisor => None,
        };
        match record.head.kind {
            // These count whatever their fields are.
            kind::ALIAS | kind::CACHE => self.aliases += 1,
            kind::REFUSED => {
                self.refusal.get_or_insert_with(|| record.body.to_owned());
            }
            kind::LATENCY => self.latencies.push(record.body.to_owned()),
            kind::PANIC => {
                self.panic.get_or_insert_with(|| record.body.to_owned());
            }
            _ => match Event::read(&record) {
                // The NOSTART record of a manifest that cannot be read is free text.
                Ok(Event::Other) | Err(_) => self.damaged(domain, &record),
                Ok(event) => self.event(domain, &record, event),
            },
        }
    }

    /// Takes a record that was read.
    fn event(&mut self, domain: Option<u16>, record: &Record<'_>, event: Event<'_>) {
        let named = |name: Text<'_>, reason: &str| (name.as_str().to_owned(), reason.to_owned());
        match event {
            Event::Console(text) => {
                if let (Some(domain), Some(said)) = (domain, Said::read(text)) {
                    self.said.insert(domain, said);
                }
            }
            Event::Start(start) => {
                if let Some(domain) = domain {
                    self.names.insert(domain, start.name.as_str().into());
                }
            }
            Event::NoStart(NoStart { name, reason }) => {
                self.refused.push(named(name, reason.as_str()));
            }
            Event::Shutdown(Shutdown { name, reason, .. }) => {
                self.shut_down.push(named(name, reason));
            }
            Event::Crash(Crash { name, reason, .. })
            | Event::CrashIdle(CrashIdle { name, reason }) => {
                self.crashed.push(named(name, reason.as_str()));
            }
            Event::AuditSummary(AuditSummary { wrong: count, .. })
            | Event::Heap(Heap { wrong: count, .. })
            | Event::Teardown(Teardown { stuck: count, .. })
            | Event::Leftovers(Leftovers { stuck: count })
                if count > 0 =>
            {
                self.audit.get_or_insert_with(|| record.body.to_owned());
            }
            Event::End(end) => self.end = Some(end),
            _ => {}
        }
    }

    /// Takes a record that lacks a key or has a garbled one: what can be read of it counts.
    fn damaged(&mut self, domain: Option<u16>, record: &Record<'_>) {
        let named = || {
            let name = record.field("name").unwrap_or("?").to_owned();
            (name, record.field("reason").unwrap_or("unknown").to_owned())
        };
        match record.head.kind {
            kind::START => {
                if let (Some(domain), Some(name)) = (domain, record.field("name")) {
                    self.names.insert(domain, name.into());
                }
            }
            kind::NOSTART => self.refused.push(named()),
            kind::SHUTDOWN => self.shut_down.push(named()),
            kind::CRASH => self.crashed.push(named()),
            kind::AUDIT => {
                let is_bad = |key| record.number(key).is_some_and(|count| count > 0);
                if is_bad("wrong") || is_bad("stuck") {
                    self.audit.get_or_insert_with(|| record.body.to_owned());
                }
            }
            // It is believed as a whole or not at all.
            kind::END => self.end = None,
            _ => {}
        }
    }

    /// What a domain said of itself, by the domain's name.
    pub(crate) fn said_by(&self, name: &str) -> Option<&Said> {
        let (domain, _) = self.names.iter().find(|(_, known)| *known == name)?;
        self.said.get(domain)
    }

    /// The first domain that called itself failed.
    fn own_failure(&self) -> Option<String> {
        self.said.iter().find_map(|(domain, said)| match said {
            Said::Fail(figures) => {
                let name = self.names.get(domain).cloned().unwrap_or(format!("d{domain}"));
                Some(format!("{name}: {figures}"))
            }
            Said::Pass(_) => None,
        })
    }
}

/// Judges a run.
pub(crate) fn judge(facts: &Facts, ended: &Ended, deny_aliases: bool) -> Verdict {
    let first = |list: &[(String, String)]| {
        list.first().map(|(name, reason)| format!("{name}: {reason}")).unwrap_or_default()
    };
    let status = match ended {
        Ended::Exited(status, _) => *status,
        _ => None,
    };
    if let Some(text) = &facts.panic {
        return Verdict::new(Exit::Panicked, format!("the hypervisor panicked: {text}"));
    }
    if status == Some(debug_exit(CODE_PANIC)) {
        return Verdict::new(Exit::Panicked, "the hypervisor panicked without a record");
    }
    if let Some(text) = &facts.audit {
        return Verdict::new(Exit::Panicked, format!("the hypervisor's audit failed: {text}"));
    }
    if *ended == Ended::TimedOut {
        return Verdict::new(Exit::TimedOut, trouble(ended));
    }
    let Some(end) = facts.end else {
        return Verdict::new(Exit::Host, trouble(ended));
    };
    let all_well = end.ok == end.guests && end.failed == 0 && end.crashed == 0;
    let expected = debug_exit(if all_well { CODE_OK } else { CODE_NOT_OK });
    if status != Some(expected) {
        let why = format!("the log ends well formed, but {}", trouble(ended));
        return Verdict::new(Exit::Host, why);
    }
    let aliases = facts.aliases.max(end.aliases);
    if deny_aliases && aliases > 0 {
        return Verdict::new(Exit::Aliases, format!("{aliases} aliases were met"));
    }
    // Refused guests count as crashed there.
    if !facts.crashed.is_empty() || end.crashed > facts.refused.len() as u64 {
        return Verdict::new(
            Exit::GuestCrashed,
            format!("a guest crashed: {}", first(&facts.crashed)),
        );
    }
    if !facts.refused.is_empty() {
        return Verdict::new(
            Exit::GuestNotStarted,
            format!("a guest was refused: {}", first(&facts.refused)),
        );
    }
    if let Some(failure) = facts.own_failure() {
        return Verdict::new(Exit::GuestFailed, format!("a guest reported failure: {failure}"));
    }
    if !all_well {
        return Verdict::new(Exit::GuestFailed, "a guest reported failure");
    }
    let plural = if end.guests == 1 { "guest" } else { "guests" };
    Verdict::new(Exit::Ok, format!("{} {plural} ended well, {aliases} aliases met", end.guests))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = "[   0.100000] d1 START name=hello\n[   0.200000] d1v0 | VERDICT pass\n";
    const GOOD: &str = "[   0.300000] d1 SHUTDOWN name=hello reason=poweroff\n[   0.400000] hv END guests=1 ok=1 failed=0 crashed=0 aliases=2\n";

    fn judged(log: &str, ended: Ended, deny: bool) -> Exit {
        judge(&Facts::read(log), &ended, deny).exit
    }

    fn exited(status: i32) -> Ended {
        Ended::Exited(Some(status), String::new())
    }

    #[test]
    fn success_needs_the_last_record_and_the_status() {
        let log = format!("noise\n{START}{GOOD}");
        assert_eq!(judged(&log, exited(33), false), Exit::Ok);
        assert_eq!(judged(&log, exited(33), true), Exit::Aliases);
        for (log, ended) in [
            (log.as_str(), exited(35)),
            (log.as_str(), exited(0)),
            (log.as_str(), exited(1)),
            (log.as_str(), Ended::Enough),
            (log.as_str(), Ended::Exited(None, String::new())),
            (START, exited(33)),
            ("", exited(33)),
            ("", exited(0)),
            ("[   0.400000] hv END guests=1 ok=1", exited(33)),
        ] {
            assert_eq!(judged(log, ended.clone(), false), Exit::Host, "{log} {ended:?}");
        }
        assert_eq!(judged(&log, Ended::TimedOut, false), Exit::TimedOut);
    }

    #[test]
    fn each_bad_end_has_its_code() {
        let end = |rest: &str| format!("{START}{rest}");
        for (log, exit) in [
            (
                "[   0.3] hv\n[   0.300000] d1 SHUTDOWN name=a reason=failure\n[   0.400000] hv END guests=1 ok=0 failed=1 crashed=0 aliases=0",
                Exit::GuestFailed,
            ),
            (
                "[   0.300000] d1 CRASH name=a reason=\"double fault\"\n[   0.400000] hv END guests=2 ok=1 failed=0 crashed=1 aliases=0",
                Exit::GuestCrashed,
            ),
            (
                "[   0.300000] hv NOSTART name=bad reason=\"e_machine\"\n[   0.400000] hv END guests=2 ok=1 failed=0 crashed=1 aliases=0",
                Exit::GuestNotStarted,
            ),
        ] {
            assert_eq!(judged(&end(log), exited(35), false), exit, "{log}");
        }
        let panic = "[   0.300000] hv PANIC at=\"x.rs:1\" index out of bounds\n";
        assert_eq!(judged(panic, exited(37), false), Exit::Panicked);
        assert_eq!(judged(panic, Ended::TimedOut, false), Exit::Panicked);
        assert_eq!(judged("", exited(37), false), Exit::Panicked);
        for audit in ["d1 AUDIT teardown freed=3 stuck=1", "hv AUDIT frames=9 wrong=1"] {
            let log = format!("{START}[   0.250000] {audit}\n{GOOD}");
            assert_eq!(judged(&log, exited(33), false), Exit::Panicked, "{audit}");
        }
        let log = format!("{START}[   0.250000] hv AUDIT frames=9 wrong=0 stuck=0\n{GOOD}");
        assert_eq!(judged(&log, exited(33), false), Exit::Ok);
    }

    /// Records as the hypervisor writes them, with all their keys.
    #[test]
    fn whole_records_are_read() {
        let log = "\
[   0.100000] d1 START name=\"hello\" pages=1024 vcpus=1 entry=0xffffffff80100052 overhead_frames=9 vcpu_bytes=11808 in=950 us
[   0.300000] d1 SHUTDOWN name=\"hello\" reason=poweroff pins=3 refused=0 aliases=0 healed=0
[   0.300001] hv NOSTART name=\"bad\" reason=\"no room\"
[   0.300002] hv NOSTART the manifest is cut
[   0.300003] d3 CRASH name=\"idle\" reason=\"no root table\"
";
        let facts = Facts::read(log);
        let pair = |name: &str, reason: &str| (name.to_owned(), reason.to_owned());
        assert_eq!(facts.names, [(1, "hello".to_owned())].into());
        assert_eq!(facts.shut_down, [pair("hello", "poweroff")]);
        assert_eq!(facts.refused, [pair("bad", "no room"), pair("?", "unknown")]);
        assert_eq!(facts.crashed, [pair("idle", "no root table")]);
        for (audit, is_bad) in [
            ("d1 AUDIT teardown freed=3 kept=0 stuck=1 free_frames=9", true),
            ("d1 AUDIT teardown freed=3 kept=0 stuck=0 free_frames=9", false),
            ("hv AUDIT frames=9 own=1 tables=0 entries=0 wrong=1", true),
            ("hv AUDIT frames=9 own=1 tables=0 entries=0 wrong=0", false),
            ("hv AUDIT leftovers stuck=1", true),
            ("hv AUDIT heap late_allocations=1 first_bytes=8 wrong=1", true),
            // Damaged: what can be read counts.
            ("hv AUDIT frames=9 own=x wrong=1", true),
            ("hv AUDIT frames=9 own=1", false),
        ] {
            let facts = Facts::read(&format!("[   0.250000] {audit}\n"));
            assert_eq!(facts.audit.is_some(), is_bad, "{audit}");
        }
    }

    #[test]
    fn a_guest_that_calls_itself_failed_is_believed() {
        let log = format!("{START}[   0.250000] d1v0 | VERDICT fail refused=1\n{GOOD}");
        assert_eq!(judged(&log, exited(33), false), Exit::GuestFailed);
    }

    #[test]
    fn a_guest_cannot_speak_for_the_hypervisor() {
        let forged = "[   0.300000] d1v0 | [   0.400000] hv END guests=1 ok=1 failed=0 crashed=0 aliases=0\n";
        assert_eq!(judged(forged, exited(33), false), Exit::Host);
    }

    #[test]
    fn words_are_found_by_name() {
        let facts = Facts::read(START);
        assert_eq!(facts.said_by("hello"), Some(&Said::Pass(String::new())));
        assert_eq!(facts.said_by("other"), None);
    }
}
