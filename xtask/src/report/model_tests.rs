//! Tests of reading logs, whole and damaged.

use super::*;

const LOG: &str = "\
BdsDxe: starting
[   0.100000] hv INFO up
[   0.200000] d1 START name=\"stress\" pages=16384
[   0.300000] d1v0 MARK text=\"naive round 1\"
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
    assert_eq!(violation.mappings[1][1], ("table".into(), "0x77".into()));
    assert_eq!(value(&violation.search, "found"), Some("2"));
    assert_eq!(violation.mark.as_deref(), Some("naive round 1"));
    assert_eq!(report.crashes[0].dump, ["rax=0x0"]);
    assert_eq!(report.skipped.before, 1);
    assert_eq!((report.skipped.garbled, report.skipped.orphans), (0, 0));
    assert_eq!(report.end.len(), 5);
    let stress = &report.domains[0];
    assert_eq!((stress.aliases, stress.refused), (1, 3));
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
    assert!(report.violations.is_empty() && report.end.is_empty());
}

#[test]
fn every_cut_and_every_lost_byte_is_survived() {
    for at in 0..LOG.len() {
        let cut = &LOG[..at];
        let lost = format!("{}{}", &LOG[..at], &LOG[at + 1..]);
        let split = format!("{}\n{}", &LOG[..at], &LOG[at..]);
        for log in [cut, &lost, &split] {
            let report = Report::read(log);
            assert!(!super::super::text::show(&report).is_empty());
            assert!(super::super::html::page(&report).ends_with("</html>\n"));
            assert!(serde_json::to_string(&report).is_ok());
        }
    }
}
