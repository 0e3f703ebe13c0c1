//! Tests on a small buffer, which is full most of the time.

use crate::*;
use pinfold_abi::record::{Record, Who, kind};
use proptest::prelude::*;
use std::borrow::ToOwned;
use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

const SIZE: usize = 32 * 1024;
const DOMAINS: u16 = 2;

fn quotas() -> Quotas {
    Quotas::divide(SIZE, DOMAINS.into())
}

fn buffer() -> std::boxed::Box<LogBuffer<SIZE>> {
    let mut buffer = std::boxed::Box::new(LogBuffer::new());
    buffer.set_quotas(quotas());
    buffer
}

fn sources() -> Vec<Source> {
    let of = |domain| [Source::Lifecycle(domain), Source::Reports(domain), Source::Console(domain)];
    let domains = (1..=DOMAINS).flat_map(of);
    [Source::Hypervisor, Source::Messages].into_iter().chain(domains).collect()
}

/// A record of a source with a number, padded to a length.
fn record(source: Source, number: u64, length: usize) -> String {
    let head = format!("[   0.000000] {} TEST of={} n={number} ", source.subject(), source.name());
    format!("{head:x<length$}\r\n")
}

fn read_all<const N: usize>(buffer: &mut LogBuffer<N>) -> String {
    let mut out = Vec::new();
    let mut chunk = [0; 16];
    loop {
        match buffer.read(&mut chunk) {
            0 => return String::from_utf8(out).unwrap(),
            count => out.extend_from_slice(&chunk[..count]),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append { source: usize, length: usize },
    Line { domain: u16, length: usize, complete: bool },
    Read(usize),
    AppendDropped,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..sources().len(), 40..MAX_RECORD - 2)
            .prop_map(|(source, length)| Step::Append { source, length }),
        2 => (1..=DOMAINS, 0..400usize, any::<bool>())
            .prop_map(|(domain, length, complete)| Step::Line { domain, length, complete }),
        4 => (0..3000usize).prop_map(Step::Read),
        1 => Just(Step::AppendDropped),
    ]
}

/// Lines as a reader of the port sees them, without cancelled ones.
fn lines(stream: &[u8]) -> Vec<String> {
    let text = core::str::from_utf8(stream).unwrap();
    let all = text.split_inclusive("\r\n").map(str::to_owned);
    all.filter(|line| !line.contains('\x18')).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 400 }))]

    /// Records are read complete, once and in order; no source exceeds its quota or is refused
    /// within it; and missing records are counted.
    #[test]
    fn records_are_complete_in_order_and_counted(steps in prop::collection::vec(step(), 0..300)) {
        let mut buffer = buffer();
        let mut stream = Vec::new();
        let mut accepted: Vec<String> = Vec::new();
        let mut asked: BTreeMap<&str, u64> = BTreeMap::new();
        let mut open: [Option<(String, usize)>; DOMAINS as usize] = [None, None];
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Step::Append { source, length } => {
                    let source = sources()[source];
                    // Console lines are appended by `append_line`.
                    if matches!(source, Source::Console(_)) {
                        continue;
                    }
                    let text = record(source, number as u64, length);
                    let before = buffer.used(source);
                    *asked.entry(source.name()).or_default() += 1;
                    if buffer.append(0, source, text.as_bytes()).is_ok() {
                        accepted.push(text);
                    } else {
                        let half = quotas().of(source) / 2;
                        // Up to 160 bytes may stand before it.
                        let full = before + text.len() + 160 > quotas().of(source);
                        prop_assert!(full || before > half, "{source:?} refused at {before}");
                    }
                }
                Step::Line { domain, length, complete } => {
                    let slot = &mut open[usize::from(domain) - 1];
                    let (text, written) = slot.get_or_insert_with(|| (format!("{number}:"), 0));
                    let old = text.len();
                    text.extend(core::iter::repeat_n('y', length.min(500 - old.min(500))));
                    let head = format!("[   0.000000] d{domain} | ");
                    let line = ConsoleLine {
                        prefix: head.as_bytes(),
                        text: text.as_bytes(),
                        written: *written,
                        complete,
                    };
                    match buffer.append_line(0, Source::Console(domain), domain, &line) {
                        Ok(()) if complete => {
                            accepted.push(format!("{head}{text}\r\n"));
                            *slot = None;
                        }
                        Ok(()) => *written = text.len(),
                        Err(Full) => text.truncate(old),
                    }
                }
                Step::Read(count) => {
                    let mut to = vec![0; count];
                    let length = buffer.len();
                    let got = buffer.read(&mut to);
                    // Headers are never read.
                    prop_assert!(got == count || buffer.is_empty(), "{got} of {count}, {length}");
                    stream.extend_from_slice(&to[..got]);
                }
                Step::AppendDropped => buffer.append_dropped(0, None),
            }
            for source in sources() {
                prop_assert!(buffer.used(source) <= quotas().of(source), "{source:?}");
            }
        }
        // Twice: there may be no room for DROPPED records until the rest has been read.
        for _ in 0..2 {
            buffer.append_dropped(0, None);
            stream.extend_from_slice(read_all(&mut buffer).as_bytes());
        }
        prop_assert!(sources().into_iter().all(|source| buffer.used(source) == 0));

        let mut counted: BTreeMap<String, u64> = BTreeMap::new();
        let mut expected = accepted.iter();
        for line in lines(&stream) {
            // The stream may end with an incomplete line.
            if !line.ends_with("\r\n") {
                continue;
            }
            let parsed = Record::parse(&line);
            prop_assert!(parsed.is_some(), "torn: {line:?}");
            let parsed = parsed.unwrap();
            if parsed.head.kind == kind::DROPPED {
                let of = parsed.field("of").unwrap().to_owned();
                *counted.entry(of).or_default() += parsed.number("records").unwrap();
                continue;
            }
            prop_assert_eq!(Some(&line), expected.next());
            if let Some(of) = parsed.field("of") {
                *counted.entry(of.to_owned()).or_default() += 1;
            }
        }
        prop_assert_eq!(expected.next(), None);
        for (source, asked) in asked {
            prop_assert_eq!(counted.get(source).copied(), Some(asked), "{}", source);
        }
    }
}

#[test]
fn a_flooding_source_leaves_the_others_their_quota() {
    let mut buffer = buffer();
    let flood = record(Source::Reports(1), 0, 200);
    while buffer.append(0, Source::Reports(1), flood.as_bytes()).is_ok() {}
    for source in sources().into_iter().filter(|source| *source != Source::Reports(1)) {
        let mut fitted = 0;
        while buffer.append(0, source, record(source, 0, 200).as_bytes()).is_ok() {
            fitted += 1;
        }
        assert_eq!(fitted, quotas().of(source) / (202 + 3), "{source:?}");
    }
}

#[test]
fn dropping_ends_when_half_the_quota_is_free_and_is_recorded_there() {
    let mut buffer = buffer();
    let source = Source::Reports(2);
    let text = |number| record(source, number, 500);
    let fit = (0..).take_while(|&n| buffer.append(0, source, text(n).as_bytes()).is_ok()).count();
    assert!(fit > 4);
    // One record is read: there is room for another, but the source goes on dropping.
    buffer.read(&mut [0; 502]);
    assert_eq!(buffer.append(7, source, text(100).as_bytes()), Err(Full));
    buffer.read(&mut vec![0; 502 * (fit / 2)]);
    assert_eq!(buffer.append(7, source, text(200).as_bytes()), Ok(()));
    let out = read_all(&mut buffer);
    let gap = "[   0.000007] d2 DROPPED records=2 cause=buffer_full of=reports\r\n";
    let end = format!("{}{gap}{}", text(fit as u64 - 1), text(200));
    assert!(out.ends_with(&end), "{out}");
}

#[test]
fn a_waiting_writer_is_woken_when_half_the_quota_is_free() {
    let mut buffer = buffer();
    let text = [b'z'; 512];
    let line =
        ConsoleLine { prefix: b"[   0.000000] d1 | ", text: &text, written: 0, complete: true };
    let source = Source::Console(1);
    while buffer.append_line(0, source, 1, &line).is_ok() {}
    assert!(!buffer.take_wakeup());
    while buffer.used(source) > quotas().of(source) / 2 {
        assert!(!buffer.take_wakeup());
        assert_ne!(buffer.read(&mut [0; 16]), 0, "more is charged than there is");
    }
    assert!(buffer.take_wakeup());
    assert!(!buffer.take_wakeup(), "once");
    assert_eq!(buffer.append_line(0, source, 1, &line), Ok(()));
    buffer.append_dropped(0, None);
    assert!(!read_all(&mut buffer).contains("DROPPED"), "a writer that waits drops nothing");
}

#[test]
fn a_record_cancels_an_incomplete_line_which_is_written_again() {
    let mut buffer = buffer();
    let line = |text, written, complete| ConsoleLine {
        prefix: b"[   0.000000] d1 | ",
        text,
        written,
        complete,
    };
    let source = Source::Console(1);
    buffer.append_line(0, source, 1, &line(b"ab", 0, false)).unwrap();
    buffer.append_line(0, source, 1, &line(b"abc", 2, false)).unwrap();
    buffer.append(0, Source::Hypervisor, b"[   0.000000] hv END ok=1\r\n").unwrap();
    buffer.append_line(0, source, 1, &line(b"abcd", 3, true)).unwrap();
    let expected =
        "[   0.000000] d1 | abc\x18\r\n[   0.000000] hv END ok=1\r\n[   0.000000] d1 | abcd\r\n";
    assert_eq!(read_all(&mut buffer), expected);
}

#[test]
fn quotas_fit_a_record_for_any_number_of_domains() {
    const CAPACITY: usize = 512 * 1024;
    for domains in 0..=MAX_DOMAINS + 1 {
        let quotas = Quotas::divide(CAPACITY, domains);
        assert!(quotas.total() <= CAPACITY, "{domains}");
        assert!(quotas.fit_longest_record(), "{domains}");
    }
}

#[test]
fn every_source_has_its_own_index() {
    let of = |domain| [Source::Lifecycle(domain), Source::Reports(domain), Source::Console(domain)];
    let domains = (1..=MAX_DOMAINS as u16).flat_map(of);
    let all = [Source::Hypervisor, Source::Messages].into_iter().chain(domains);
    let mut count = 0;
    for (index, source) in all.enumerate() {
        assert_eq!(source.index(), index);
        assert_eq!(Source::from_index(index), source);
        count += 1;
    }
    assert_eq!(count, source::SOURCES);
    assert_eq!(Source::Reports(0).index(), Source::Messages.index());
    assert_eq!(Source::Reports(MAX_DOMAINS as u16 + 1).index(), Source::Messages.index());
}

#[test]
fn a_record_is_charged_by_subject_and_kind() {
    for (who, record, source) in [
        (Who::Hypervisor, kind::END, Source::Hypervisor),
        (Who::Hypervisor, "WARN", Source::Messages),
        (Who::Domain(3), kind::AUDIT, Source::Hypervisor),
        (Who::Vcpu(3, 1), kind::CRASH, Source::Lifecycle(3)),
        (Who::Vcpu(3, 1), kind::DUMP, Source::Lifecycle(3)),
        (Who::Vcpu(3, 1), kind::ALIAS, Source::Reports(3)),
        (Who::Domain(3), kind::MARK, Source::Reports(3)),
        (Who::Domain(3), kind::CONSOLE, Source::Console(3)),
    ] {
        assert_eq!(Source::of(who, record), source, "{record}");
    }
}
