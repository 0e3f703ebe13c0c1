//! Tests of records: heads, fields, and each type there and back.

extern crate std;

use super::*;
use crate::address::{Mfn, Pfn, Vaddr};
use std::format;
use std::vec::Vec;
use strum::VariantArray;

#[test]
fn a_record_reads_back_what_was_written() {
    let head = Head { micros: 12_345_678, who: Who::Vcpu(1, 0), kind: kind::ALIAS };
    let region = Text::Bytes(b"xfs \"buf\0\0");
    let line = format!("{head} id=7 op=pin_l1 frame=0x1a2b region=\"{region}\"");
    assert_eq!(line, "[  12.345678] d1v0 ALIAS id=7 op=pin_l1 frame=0x1a2b region=\"xfs ?buf\"");
    let record = Record::parse(&line).unwrap();
    assert_eq!(record.head, head);
    assert_eq!(record.number("id"), Some(7));
    assert_eq!(record.number("frame"), Some(0x1a2b));
    assert_eq!(record.field("region"), Some("xfs ?buf"));
    assert_eq!(record.field("none"), None);
}

#[test]
fn garbled_lines_are_not_records() {
    for line in [
        "",
        "[",
        "[x.y] hv END",
        "[ 1.2] hv END",
        "[ 1.000000] who END",
        "[99999999999999999999.000000] hv END",
    ] {
        assert_eq!(Record::parse(line), None, "{line}");
    }
}

#[test]
fn an_unclosed_quote_ends_with_the_line() {
    let record = Record::parse("[   0.000001] hv MARK a=1 b=\"half").unwrap();
    let fields: Vec<_> = record.fields().collect();
    assert_eq!(fields, [("a", "1"), ("b", "half")]);
}

/// A record of each type, made from random numbers and texts, reads back as it was written; with a
/// key missing or garbled, the error names the key.
mod each_type {
    use super::*;
    use crate::frame_map::{Run, Use};
    use proptest::prelude::*;
    use std::string::{String, ToString};

    /// What fields are made of.
    #[derive(Debug)]
    struct Source {
        numbers: Vec<u64>,
        words: Vec<String>,
        texts: Vec<String>,
        runs: Vec<Run>,
        flags: u32,
    }

    impl Source {
        fn n(&self, at: usize) -> u64 {
            self.numbers[at]
        }

        fn small(&self, at: usize) -> u16 {
            self.numbers[at] as u16
        }

        fn hex(&self, at: usize) -> Hex {
            Hex(self.numbers[at])
        }

        fn word(&self, at: usize) -> &str {
            &self.words[at]
        }

        fn text(&self, at: usize) -> Text<'_> {
            Text::Str(&self.texts[at])
        }

        fn yes(&self, at: u32) -> bool {
            self.flags >> at & 1 != 0
        }

        fn maybe<T>(&self, at: u32, value: T) -> Option<T> {
            self.yes(at).then_some(value)
        }

        fn who(&self) -> Who {
            let (domain, vcpu) = (self.small(0), self.small(1));
            [Who::Hypervisor, Who::Domain(domain), Who::Vcpu(domain, vcpu)][self.flags as usize % 3]
        }

        fn evidence(&self) -> Evidence<'_> {
            let seen = Seen {
                owner: Maybe(self.maybe(0, self.small(2))),
                kind: self.word(0),
                state: self.word(1),
                count: self.n(3),
                refs: self.n(4),
                pinned: Bit(self.yes(1)),
            };
            Evidence {
                op: self.word(2),
                dom: self.small(5),
                frame: Mfn::new(self.n(6)),
                cause: self.word(3),
                bits: self.maybe(2, self.hex(7)),
                descriptor: self.maybe(3, Hex16(self.n(8))),
                va: self.maybe(4, self.hex(9)),
                slot: self.maybe(5, self.n(10)),
                wanted: self.maybe(6, self.word(4)),
                present: self.maybe(7, self.word(5)),
                seen: self.maybe(8, seen),
                location: self.maybe(9, self.location()),
            }
        }

        fn location(&self) -> Location {
            Location {
                level: self.n(11) as u8,
                table: Mfn::new(self.n(12)),
                index: self.small(13),
                entry: Hex16(self.n(14)),
            }
        }
    }

    fn source() -> impl Strategy<Value = Source> {
        use proptest::collection::vec;
        let run = (0..Use::ALL.len(), 1..9_u64);
        let run = run.prop_map(|(at, frames)| Run { usage: Use::ALL[at], frames });
        (
            vec(any::<u64>(), 24),
            // `none` stands for an unknown value.
            vec("[a-z0-9_+]{1,12}".prop_filter("not a word", |word| word != "none"), 8),
            vec("[ !#-~]{0,30}".prop_filter("not a text", |text| text != "none"), 4),
            vec(run, 1..8),
            any::<u32>(),
        )
            .prop_map(|(numbers, words, texts, runs, flags)| Source {
                numbers,
                words,
                texts,
                runs,
                flags,
            })
    }

    /// The body with the value of a key replaced, or without the key.
    fn changed(body: &str, word: &str, key: &str, value: Option<&str>) -> String {
        let mut words: Vec<String> = Vec::new();
        words.extend((!word.is_empty()).then(|| word.to_string()));
        for (known, text) in Fields::of(body) {
            let text = if known == key { value } else { Some(text) };
            words.extend(text.map(|text| format!("{known}=\"{text}\"")));
        }
        words.join(" ")
    }

    macro_rules! check {
        ($($type:ident $value:tt)*) => {$(
            let record = $type $value;
            let body = record.to_string();
            prop_assert_eq!($type::parse(&body), Ok(record));
            let newer = format!("{body} newer=\"1 2\" text");
            prop_assert_eq!($type::parse(&newer), Ok(record));
            let mut known: Vec<&str> = Vec::new();
            $type::keys(&mut |key| known.push(key));
            for (key, _) in Fields::of(&body) {
                prop_assert!(known.contains(&key), "{} of {}", key, body);
                let without = changed(&body, $type::WORD, key, None);
                match $type::parse(&without) {
                    Err(error) => prop_assert_eq!(error.to_string(), format!("the key `{key}` is missing")),
                    Ok(other) => prop_assert!(other != record, "{} of {}", key, body),
                }
                let garbled = changed(&body, $type::WORD, key, Some("%%"));
                if let Err(error) = $type::parse(&garbled) {
                    prop_assert_eq!(error.to_string(), format!("the value of `{key}` cannot be read"));
                }
            }
        )*};
    }

    proptest! {
        #[test]
        fn violations_read_back_as_written(s in source()) {
            let (evidence, pfn) = (s.evidence(), Maybe(s.maybe(10, Pfn::new(s.n(15)))));
            let (rip, why, list) = (s.hex(16), s.text(0), &s.numbers[..3]);
            let callers = s.maybe(11, Addresses::Items(list));
            check! {
                Alias { id: s.n(17), evidence, pfn, rip, callers, why }
                Cache {
                    id: s.n(17), evidence, pfn, rip: Maybe(s.maybe(12, rip)), callers,
                    policy: s.maybe(13, s.word(6)), why,
                }
                Refused { id: s.n(17), evidence, pfn, rip, why }
                Mapping {
                    id: s.n(17), va: Maybe(s.maybe(14, Vaddr::new(s.n(18)))),
                    table: Mfn::new(s.n(19)), index: s.small(20), entry: Hex16(s.n(21)),
                    memory_type: s.maybe(15, s.word(6)), region: Maybe(s.maybe(16, s.text(1))),
                    state: MappingState::VARIANTS[s.flags as usize % 3],
                    borrower: s.maybe(17, s.who()),
                }
                SearchEnd {
                    id: s.n(17), end: YesNo(true), found: s.n(18) as u32,
                    cut_short: YesNo(s.yes(18)), search_us: s.n(19),
                }
                Healed {
                    id: s.n(17), frame: Mfn::new(s.n(18)), pinned: Mfn::new(s.n(19)),
                    cleared_by: s.word(0),
                }
            }
        }

        #[test]
        fn records_of_domains_read_back_as_written(s in source()) {
            let (name, reason) = (s.text(0), s.text(1));
            check! {
                Start {
                    name, pages: s.n(0), vcpus: s.small(1), entry: s.hex(2),
                    overhead_frames: s.n(3), vcpu_bytes: s.n(4), built_in: Micros(s.n(5)),
                }
                NoStart { name, reason }
                Shutdown {
                    name, reason: s.word(0), pins: s.n(0), refused: s.n(1), aliases: s.n(2),
                    healed: s.n(3),
                }
                Crash {
                    name, reason, mode: s.word(0), rip: s.hex(0), vector: s.n(1) as u32,
                    error: s.hex(2), cr2: s.hex(3), cs: s.hex(4), ss: s.hex(5), rflags: s.hex(6),
                    cr3: s.hex(7),
                }
                CrashIdle { name, reason }
                DumpUnreadable { stack: s.hex(0), unreadable: YesNo(true) }
                DumpFrame { frame: s.n(0) as u32, rip: s.hex(1) }
                MarkText { text: name }
                FrameUses { first: Mfn::new(s.n(0)), frames: s.n(1), map: Map::Items(&s.runs) }
                Dropped { records: s.n(0), cause: s.word(0), source: s.maybe(0, s.word(1)) }
            }
        }

        #[test]
        fn records_of_the_machine_read_back_as_written(s in source()) {
            let active = OnOff(s.yes(0));
            let (keys, name) = (s.text(0), s.text(1));
            check! {
                IsolationMode { active, wanted: s.word(0) }
                IsolationCheck { active, cpu: s.n(0), mapped_pages: s.n(1), filled: s.n(2) }
                CpuFlaw {
                    flaw: s.word(0), affected: YesNo(s.yes(1)), action: Word(Text::Str(s.word(1))),
                    open: s.maybe(2, s.word(2)), reason: s.maybe(3, keys),
                }
                Switches {
                    cpu: s.n(0), domain_switches: s.n(1), ibpb: s.n(2), rsb_fill: s.n(3),
                    l1d_flush: s.n(4),
                }
                Latency {
                    cpu: s.n(0), ipi_us: s.n(1), ipi_at: s.word(0), irq_off_us: s.n(2),
                    irq_off_at: s.word(1), sched_us: s.n(3), sched_at: s.word(2),
                }
                InputTo { to: s.who(), name: s.maybe(4, name), keys: s.maybe(5, keys) }
                InputDomain { domain: s.who(), name }
                InputKeys { keys }
                PanicTrap {
                    trap: s.n(0) as u32, error: s.hex(1), rip: s.hex(2), rsp: s.hex(3),
                    rflags: s.hex(4), cr2: s.hex(5),
                }
                End { guests: s.n(0), ok: s.n(1), failed: s.n(2), crashed: s.n(3), aliases: s.n(4) }
            }
        }

        #[test]
        fn audits_read_back_as_written(s in source()) {
            check! {
                AuditSummary {
                    frames: s.n(0), own: s.n(1), tables: s.n(2), entries: s.n(3),
                    canaries: s.maybe(0, s.n(4)), broken: s.maybe(1, s.n(5)), wrong: s.n(6),
                }
                Discrepancy {
                    frame: Mfn::new(s.n(0)), wrong: s.word(0), counted: s.maybe(0, s.n(1)),
                    used_as: s.maybe(1, s.word(1)), types: s.maybe(2, MemoryTypes(s.n(7) as u8 & 0x3f)),
                    present: s.maybe(3, s.word(3)), index: s.maybe(4, s.small(2)),
                    entry: s.maybe(5, Hex16(s.n(3))), seen: s.word(4), state: s.word(5),
                    count: s.n(4), refs: s.n(5), pinned: Bit(s.yes(6)),
                }
                Teardown { freed: s.n(0), kept: s.n(1), stuck: s.n(2), free_frames: s.n(3) }
                Leftovers { stuck: s.n(0) }
                Heap { late_allocations: s.n(0), first_bytes: s.n(1), wrong: s.n(2) }
                Canary {
                    frame: Mfn::new(s.n(0)), offset: s.hex(1), expected: s.hex(2), seen: s.hex(3),
                }
            }
        }

        #[test]
        fn verdicts_read_back_as_written(passed in any::<bool>(), figures in "([a-z]{1,5}=[0-9]{1,5}){0,3}") {
            let verdict = Verdict { passed, figures: &figures };
            let line = verdict.to_string();
            prop_assert_eq!(Verdict::parse(&line), Some(verdict));
        }
    }
}

/// `docs/log-records.md` against the types.
mod page {
    use super::*;
    use std::collections::BTreeMap;
    use std::string::{String, ToString};

    const PAGE: &str = include_str!("../../../docs/log-records.md");

    /// Sections by the name of their type, or of their title.
    fn sections() -> BTreeMap<&'static str, &'static str> {
        let sections = PAGE.split("\n### ").skip(1);
        sections
            .map(|section| {
                let (title, text) = section.split_once('\n').unwrap();
                (title.split('`').nth(1).unwrap_or(title), text)
            })
            .collect()
    }

    /// Keys of the table in a section, in their order.
    fn keys_of(sections: &BTreeMap<&str, &'static str>, name: &str) -> Vec<&'static str> {
        let text = sections.get(name).unwrap_or_else(|| panic!("there is no section on {name}"));
        let text = text.split("\n## ").next().unwrap();
        let mut keys = Vec::new();
        for row in text.lines().filter_map(|line| line.strip_prefix("| ")) {
            if row.starts_with("[evidence](#evidence)") {
                keys.extend(keys_of(sections, "Evidence"));
            } else if let Some(key) = row.strip_prefix('`') {
                keys.push(key.split('`').next().unwrap());
            }
        }
        keys
    }

    macro_rules! types {
        ($($type:ident)*) => {{
            let mut types: Vec<(&str, String, Vec<&str>)> = Vec::new();
            $({
                let mut keys = Vec::new();
                $type::keys(&mut |key| keys.push(key));
                let title = format!("{} {}", $type::KIND, $type::WORD).trim_end().to_string();
                types.push((stringify!($type), title, keys));
            })*
            types
        }};
    }

    fn types() -> Vec<(&'static str, String, Vec<&'static str>)> {
        types! {
            Alias Cache Refused Mapping SearchEnd Healed Start NoStart Shutdown Crash CrashIdle
            DumpUnreadable DumpFrame MarkText FrameUses Dropped AuditSummary Discrepancy Teardown
            Leftovers Heap Canary IsolationMode IsolationCheck CpuFlaw Switches Latency InputTo
            InputDomain InputKeys PanicTrap End
        }
    }

    #[test]
    fn it_has_the_keys_of_each_type() {
        let sections = sections();
        let types = types();
        for (name, title, keys) in &types {
            assert!(PAGE.contains(&format!("\n### {title}: `{name}`\n")), "{title}: {name}");
            assert_eq!(keys_of(&sections, name), *keys, "{name}");
        }
        let known = |name: &&str| *name == "Evidence" || types.iter().any(|one| one.0 == *name);
        let unknown: Vec<_> = sections.keys().filter(|name| !known(name)).collect();
        assert!(unknown.is_empty(), "sections on types that do not exist: {unknown:?}");
    }

    #[test]
    fn its_examples_are_read_and_written_as_they_stand() {
        for (name, section) in sections() {
            let examples: Vec<&str> =
                section.lines().filter(|line| line.starts_with('[')).collect();
            assert!(!examples.is_empty() || name == "Evidence", "{name} has no example");
            for line in examples {
                let record = Record::parse(line).unwrap();
                let event = Event::read(&record).unwrap();
                assert!(format!("{event:?}").starts_with(&format!("{name}(")), "{line}");
                assert_eq!(event.to_string(), record.body);
            }
        }
    }

    /// Every record of a log that the hypervisor wrote before the records were types.
    #[test]
    fn a_whole_log_is_written_back_as_it_was() {
        let log = include_str!("stress.txt");
        for line in log.lines() {
            let record = Record::parse(line).unwrap();
            let event = Event::read(&record).unwrap();
            // Free text is not read.
            assert!(event != Event::Other || record.head.kind == kind::INFO, "{line}");
            assert!(event == Event::Other || event.to_string() == record.body, "{line}");
        }
    }
}
