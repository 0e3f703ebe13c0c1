//! Tests of reading logs, whole and damaged.

use super::*;

const LOG: &str = "\
BdsDxe: starting
[   0.100000] hv INFO up
[   0.200000] d1 START name=\"stress\" pages=16384
[   0.300000] d1v0 MARK text=\"stray round=1\"
[   0.400000] d1v0 ALIAS id=7 op=pin_l1 frame=0x1a2b rip=0xffffffff80101234
[   0.400001] d1v0 MAPPING id=7 va=0xffff888000000000 table=0x77 index=3
[   0.400002] d1v0 MAPPING id=7 va=0xffff888000001000 table=0x77 index=4
[   0.400003] d1v0 MAPPING id=7 end=yes found=2 cut_short=no
[   0.500000] d1v0 REFUSED id=8 op=pin frame=0x1 cause=not_owned why=\"frame 0x1 is not its own\"
[   0.500001] d1v0 REFUSED id=9 op=pin frame=0xabc cause=not_owned why=\"frame 0xabc is not its own\"
[   0.500002] d1v0 REFUSED id=10 op=unpin frame=0x1 cause=not_pinned why=\"not pinned\"
[   0.600000] d1 | VERDICT pass rounds=2
[   0.700000] d1 SHUTDOWN name=\"stress\" reason=poweroff
[   0.800000] d2 CRASH name=\"x\" reason=\"no stack\" rip=0x10
[   0.800001] d2 DUMP rax=0x0
[   0.900000] hv END guests=2 ok=1 failed=0 crashed=1 aliases=1
";

#[test]
fn records_find_their_heads() {
    let report = Report::read(LOG);
    let [violation] = report.violations.as_slice() else { panic!("{report:?}") };
    assert_eq!(violation.mappings.len(), 2);
    assert_eq!(violation.mappings[1].table.as_deref(), Some("0x77"));
    assert_eq!(violation.mappings[1].index, Some(4));
    assert_eq!(violation.search.get("found"), Some("2"));
    assert_eq!(violation.mark.as_deref(), Some("stray round=1"));
    assert_eq!(report.crashes[0].dump, ["rax=0x0"]);
    assert_eq!(report.skipped.before, 1);
    assert_eq!((report.skipped.garbled, report.skipped.orphans), (0, 0));
    assert_eq!(report.end.0.len(), 5);
    let stress = &report.domains[0];
    assert_eq!((stress.violations, stress.refused), (1, 3));
    assert_eq!(stress.verdict.as_deref(), Some("pass rounds=2"));
    assert_eq!(stress.ended, "shut down: poweroff");
    assert_eq!(report.domains[1].ended, "crashed: no stack");
}

#[test]
fn alike_refusals_are_counted_together() {
    let report = Report::read(LOG);
    let counts: Vec<_> =
        report.refusals.iter().map(|one| (one.count, &*one.op, &*one.cause, &*one.first)).collect();
    assert_eq!(
        counts,
        [
            (2, "pin", "not_owned", "frame 0x1 is not its own"),
            (1, "unpin", "not_pinned", "not pinned")
        ]
    );
}

#[test]
fn a_panic_has_its_words_and_calls() {
    let report = Report::read(
        "[   1.000000] hv PANIC panicked at a.rs:1:2:\nindex out of bounds\n\
         [   1.000001] hv DUMP rax=0x1\n[   1.000002] hv DUMP frame=1 rip=0xffff800000001234\n",
    );
    let panic = &report.panics[0];
    assert_eq!(panic.text, "panicked at a.rs:1:2: index out of bounds");
    assert_eq!(panic.dump, ["rax=0x1"]);
    assert_eq!(panic.backtrace[0].address, 0xffff_8000_0000_1234);
}

#[test]
fn what_cannot_be_read_is_counted() {
    let log = "[   0.1] d1 MAP\n[   0.100000] hv INFO up\n[   0.4000d1v0 ALIAS id=1\n\
               [   0.400001] d1v0 MAPPING id=1 va=0x1\n[   0.400002] d1 DUMP rax=0\n\u{fffd}\u{fffd}\n";
    let report = Report::read(log);
    assert_eq!(report.skipped.before, 1);
    assert_eq!(report.skipped.garbled, 2);
    assert_eq!(report.skipped.orphans, 2);
    assert!(report.violations.is_empty() && report.end.0.is_empty());
}

/// Everything that is shown of a report can be made.
fn shown(report: &mut Report) {
    report.summarize();
    assert!(!super::super::text::show(report, true).is_empty());
    assert!(super::super::html::page(report, "log").ends_with("</html>\n"));
    super::super::html::pictures(report);
    assert!(serde_json::to_string(report).is_ok());
    for id in report.violations.iter().filter_map(|one| one.id).take(3) {
        assert!(super::super::explain::explain(report, id).is_ok());
    }
}

#[test]
fn every_cut_and_every_lost_byte_is_survived() {
    for at in 0..LOG.len() {
        let cut = &LOG[..at];
        let lost = format!("{}{}", &LOG[..at], &LOG[at + 1..]);
        let split = format!("{}\n{}", &LOG[..at], &LOG[at..]);
        for log in [cut, &lost, &split] {
            shown(&mut Report::read(log));
        }
    }
}

#[test]
fn a_cut_log_counts_what_is_whole() {
    let log = super::super::SAMPLE;
    for at in (0..log.len()).filter(|at| log.is_char_boundary(*at)).step_by(7) {
        let (cut, report) = (&log[..at], Report::read(&log[..at]));
        let whole = &cut[..cut.rfind('\n').map_or(0, |end| end + 1)];
        let heads = |kind: &str| whole.lines().filter(|line| line.contains(kind)).count();
        assert_eq!(report.violations.len(), heads(" ALIAS ") + heads(" CACHE "));
        let mappings: usize = report.violations.iter().map(|one| one.mappings.len()).sum();
        assert_eq!(mappings, heads(" MAPPING ") - heads(" end=yes "));
        assert_eq!(report.skipped.unfinished, u64::from(whole.len() < at), "{at}");
        let Skipped { garbled, mended, damaged, orphans, .. } = report.skipped;
        assert_eq!((garbled, mended, damaged, orphans), (0, 0, 0, 0));
    }
}

#[test]
fn a_lost_line_end_costs_no_record() {
    let log = super::super::SAMPLE;
    let whole = Report::read(log);
    for (at, _) in log.match_indices('\n').filter(|(at, _)| at + 1 < log.len()) {
        // What a guest printed has no end but its line's: what follows belongs to it.
        let line = log[..at].rfind('\n').map_or(0, |begin| begin + 1);
        if log[line..at].contains(" | ") {
            continue;
        }
        let report = Report::read(&format!("{}{}", &log[..at], &log[at + 1..]));
        assert_eq!(report.violations.len(), whole.violations.len(), "{}", &log[line..at]);
        assert_eq!(report.skipped, Skipped { mended: 1, ..Skipped::default() });
    }
}

#[test]
fn a_guest_cannot_forge_records() {
    let forged = "[   0.500000] d1v0 ALIAS id=99 op=pin_l1";
    let log = format!(
        "[   0.100000] d1 | {forged}\n[   0.200000] d1 MARK text=\"{forged}\"\n\
         [   0.300000] d1v0 REFUSED op=x why=\"{forged}\"\n[   0.400000] hv INFO up\n"
    );
    let report = Report::read(&log);
    assert!(report.violations.is_empty());
    assert_eq!(report.skipped, Skipped::default());
}

#[test]
fn what_guests_say_of_themselves_is_read() {
    let report = Report::read(super::super::SAMPLE);
    assert_eq!(report.scenarios.len(), 4);
    assert_eq!(
        (report.scenarios[0].scenario.as_str(), report.scenarios[0].form.as_str()),
        ("1", "broken")
    );
    assert_eq!(report.scenarios[1].fields.number("cleared"), Some(4812));
    assert_eq!(report.curves.len(), 36);
    assert_eq!(report.curves[5].values["instructions_per_pin"], 9100.0);
    assert_eq!(report.frame_maps[0].runs.iter().map(|run| run.frames).sum::<u64>(), 4096 + 3072);
    assert!(report.violations.iter().any(|one| one.healed));
    assert_eq!(report.skipped, Skipped::default());
}

#[test]
fn places_are_shown_short_and_long() {
    let call = |file: &str, line| Call { function: "f".into(), file: file.into(), line };
    let shown = |call: Call| (call.brief(), call.to_string());
    let own = call("tests/guests/x/src/broken.rs", Some(7));
    assert_eq!(shown(own), ("f, broken.rs:7".into(), "f at tests/guests/x/src/broken.rs:7".into()));
    assert_eq!(call("a/src/scenarios/dma.rs", None).brief(), "f, scenarios/dma.rs");
    assert_eq!(shown(call("", None)), ("f".into(), "f".into()));
}

#[test]
fn a_later_frame_map_stands_for_an_earlier_one() {
    let log = "[   0.100000] d1 FRAMES first=0x400 frames=512 map=\"w*512\"\n\
               [   0.200000] d1 FRAMES first=0x600 frames=512 map=\"w*512\"\n\
               [   0.300000] d1 FRAMES first=0x400 frames=512 map=\"-*500 1*99\"\n\
               [   0.400000] d1 FRAMES first=0x800 frames=512 map=\"w*3 ? w\"\n";
    let report = Report::read(log);
    let runs: Vec<_> =
        report.frame_maps[0].runs.iter().map(|run| (run.first, run.frames, run.usage)).collect();
    assert_eq!(
        runs,
        [(0x400, 500, '-'), (0x400 + 500, 12, '1'), (0x600, 512, 'w'), (0x800, 3, 'w')]
    );
    assert_eq!(report.skipped.damaged, 1);
}

mod random {
    use super::*;
    use proptest::prelude::*;

    /// A log with so many mappings for each violation; the lines of each record.
    fn lines(violations: &[u8]) -> Vec<String> {
        let mut lines = vec!["[   0.100000] d1 START name=\"x\"".to_owned()];
        for (id, mappings) in (1..).zip(violations) {
            lines.push(format!(
                "[   0.2{id:05}] d1v0 ALIAS id={id} op=pin_l1 frame=0x1 why=\"it [is] so\""
            ));
            for at in 0..*mappings {
                lines.push(format!(
                    "[   0.2{id:05}] d1v0 MAPPING id={id} va={at:#x} table=0x77 region=\"r\" state=dead"
                ));
            }
            lines.push(format!("[   0.2{id:05}] d1v0 MAPPING id={id} end=yes found={mappings}"));
        }
        lines
    }

    fn held(report: &Report, violations: &[u8]) -> Result<(), TestCaseError> {
        let mut found: Vec<(Option<u64>, usize)> =
            report.violations.iter().map(|one| (one.id, one.mappings.len())).collect();
        found.sort_unstable();
        let wanted: Vec<(Option<u64>, usize)> =
            (1..).zip(violations).map(|(id, many)| (Some(id), usize::from(*many))).collect();
        prop_assert_eq!(found, wanted);
        prop_assert_eq!(report.skipped.orphans, 0);
        Ok(())
    }

    proptest! {
        /// In whatever order the records stand, each finds what belongs to it.
        #[test]
        fn order_does_not_matter(
            violations in prop::collection::vec(0_u8..5, 1..12),
            keys in prop::collection::vec(any::<u32>(), 100),
        ) {
            let mut lines: Vec<(u32, String)> =
                keys.into_iter().cycle().zip(lines(&violations)).collect();
            lines.sort_by_key(|(key, _)| *key);
            let lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
            held(&Report::read(&(lines.join("\n") + "\n")), &violations)?;
        }

        /// Garbage between records changes nothing about them, and is counted.
        #[test]
        fn garbage_between_records_is_passed_over(
            violations in prop::collection::vec(0_u8..5, 1..12),
            garbage in prop::collection::vec(("[^\\n\\[\u{18}\u{1b}]{1,40}", any::<prop::sample::Index>()), 0..20),
        ) {
            let mut lines = lines(&violations);
            let mut count = 0;
            for (text, at) in garbage {
                // Only blanks are no line; nothing goes before the first record.
                count += u64::from(!super::super::super::text_of(text.as_bytes()).trim().is_empty());
                let at = 1 + at.index(lines.len());
                lines.insert(at, text);
            }
            let log = lines.join("\n") + "\n";
            let mut report = Report::read(&super::super::super::text_of(log.as_bytes()));
            held(&report, &violations)?;
            prop_assert_eq!(report.skipped.garbled, count);
            shown(&mut report);
        }

        /// Bytes of any kind, and any damage to a good log, never stop it.
        #[test]
        fn no_bytes_are_too_much(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            at in any::<prop::sample::Index>(),
            length in 0_usize..200,
        ) {
            shown(&mut Report::read(&super::super::super::text_of(&bytes)));
            let mut log = super::super::super::SAMPLE.as_bytes().to_vec();
            let at = at.index(log.len());
            let end = (at + length).min(log.len());
            log.splice(at..end, bytes);
            shown(&mut Report::read(&super::super::super::text_of(&log)));
        }
    }
}
