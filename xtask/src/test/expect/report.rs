//! What the hypervisor reported about guests, without what another run may have otherwise: to compare a
//! run in the hardware container with one outside of it.
//!
//! Machine frames are numbered in the order in which the records of one number meet them, since each run
//! can get others, and so are the records' own numbers. Left out are times; refusals of what exists outside only; `rip`, which names the instruction of the hypercall (`syscall` there, `vmmcall` here);
//! and the user bit of entries, which outside of the container all entries have.

use pinfold_abi::mmu::{ENTRY_ADDRESS, EntryFlags};
use pinfold_abi::record::{Record, Who, kind};
use std::collections::BTreeMap;

/// The records that must be the same.
const KINDS: [&str; 9] = [
    kind::ALIAS,
    kind::MAPPING,
    kind::REFUSED,
    kind::CACHE,
    kind::HEALED,
    kind::MARK,
    kind::SHUTDOWN,
    kind::CRASH,
    kind::NOSTART,
];
/// First words of the lines of a guest that must be the same.
const PRINTED: [&str; 5] = ["STRAY", "POLICY", "HOSTILE", "MEMORY", "VERDICT"];
/// Operations that exist outside of the container only.
const ONLY_OUTSIDE: [&str; 2] = ["op=update_descriptor", "op=use_descriptors"];
/// Fields with the number of a machine frame.
const FRAMES: [&str; 3] = ["frame", "table", "pinned"];
/// Fields that differ from run to run.
const LEFT_OUT: [&str; 2] = ["rip", "search_us"];

/// The records with one number, in their order. Those with different numbers may be mixed otherwise in
/// another run: a search for mappings goes on while the guest causes the next record.
#[derive(Debug, Default)]
struct Group {
    lines: Vec<String>,
    /// Machine frames, by the order in which they are met.
    frames: BTreeMap<u64, usize>,
}

/// What was reported in one run.
#[derive(Debug, Default)]
pub(in crate::test) struct Report {
    /// By the order in which the numbers are met, from 1; 0: records without a number.
    groups: BTreeMap<usize, Group>,
    /// The group of the line that is being taken.
    current: usize,
    ids: BTreeMap<String, usize>,
    /// The number of the record that was skipped last.
    skipped: Option<String>,
}

impl Report {
    /// Takes a line of the log.
    pub(in crate::test) fn line(&mut self, line: &str) {
        let Some(record) = Record::parse(line) else { return };
        if record.head.who == Who::Hypervisor {
            return;
        }
        let counts = if record.head.kind == kind::CONSOLE {
            let first = record.body.trim().split(' ').next();
            first.is_some_and(|word| PRINTED.contains(&word))
        } else {
            let mut words = record.body.split(' ');
            let id = words.clone().find(|word| word.starts_with("id="));
            let skipped = words.any(|word| ONLY_OUTSIDE.contains(&word))
                // The mappings of a record that was skipped.
                || record.head.kind == kind::MAPPING && id == self.skipped.as_deref();
            if skipped {
                self.skipped = id.map(str::to_owned);
            }
            KINDS.contains(&record.head.kind) && !skipped
        };
        if counts {
            let id = record.body.split(' ').find_map(|word| word.strip_prefix("id="));
            self.current = id.map_or(0, |id| self.place(id));
            let mut words = vec![record.head.kind.to_owned()];
            let mut before = "";
            for word in record.body.trim().split(' ') {
                words.extend(self.comparable(word, before));
                before = word;
            }
            self.groups.entry(self.current).or_default().lines.push(words.join(" "));
        }
    }

    /// A word as it is compared; `None` if it isn't. In the text of `why`, a frame comes after the words
    /// "frame" and "table", and an entry is in parentheses.
    fn comparable(&mut self, word: &str, before: &str) -> Option<String> {
        let Some((field, value)) = word.split_once('=') else {
            let number = word.trim_matches(|c: char| "(),.;:\"".contains(c));
            let Some(found) = hex(number) else { return Some(word.to_owned()) };
            let comparable = if FRAMES.iter().any(|name| before.ends_with(name)) {
                self.number(found)
            } else if word.starts_with('(') {
                self.entry(found)
            } else {
                number.to_owned()
            };
            return Some(word.replace(number, &comparable));
        };
        if LEFT_OUT.contains(&field) {
            return None;
        }
        if field == "id" {
            return Some(format!("id=#{}", self.place(value)));
        }
        match hex(value) {
            Some(frame) if FRAMES.contains(&field) => {
                Some(format!("{field}={}", self.number(frame)))
            }
            Some(entry) if field == "entry" => Some(format!("{field}={}", self.entry(entry))),
            _ => Some(word.to_owned()),
        }
    }

    /// A page-table entry without what may differ.
    fn entry(&mut self, entry: u64) -> String {
        let flags = entry & !ENTRY_ADDRESS & !EntryFlags::USER.bits();
        format!("{}+{flags:#x}", self.number((entry & ENTRY_ADDRESS) >> 12))
    }

    /// A name for a machine frame that doesn't depend on its number. A machine address in CR3 cuts a
    /// number that no frame has, which is whole in the form that CR3 has outside.
    fn number(&mut self, frame: u64) -> String {
        let frames = &mut self.groups.entry(self.current).or_default().frames;
        let next = frames.len();
        format!("#{}", frames.entry(frame & u64::MAX >> 12).or_insert(next))
    }

    /// The place of a record's number among those that were met, from 1.
    fn place(&mut self, id: &str) -> usize {
        let next = self.ids.len() + 1;
        *self.ids.entry(id.to_owned()).or_insert(next)
    }

    /// Checks that the same was reported in the container (`self`) and outside of it.
    pub(in crate::test) fn check_same(&self, outside: &Report) -> Result<(), String> {
        if self.groups.is_empty() {
            return Err("nothing was reported, so nothing is compared".into());
        }
        let last = self.groups.keys().chain(outside.groups.keys()).max();
        for place in 0..=last.copied().unwrap_or(0) {
            let lines = |report: &Report| {
                report.groups.get(&place).map_or(Vec::new(), |group| group.lines.clone())
            };
            let (inside, outside) = (lines(self), lines(outside));
            for at in 0..inside.len().max(outside.len()) {
                let line = |lines: &[String]| lines.get(at).cloned().unwrap_or("nothing".into());
                let (inside, outside) = (line(&inside), line(&outside));
                if inside != outside {
                    return Err(format!("in the container: `{inside}`, outside: `{outside}`"));
                }
            }
        }
        Ok(())
    }
}

/// A hexadecimal number with its prefix.
fn hex(word: &str) -> Option<u64> {
    u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str]) -> Report {
        let mut report = Report::default();
        lines.iter().for_each(|line| report.line(&format!("[   1.000000] {line}")));
        report
    }

    fn same(here: &[&str], there: &[&str]) -> bool {
        report(here).check_same(&report(there)).is_ok()
    }

    #[test]
    fn frames_times_and_call_sites_may_differ() {
        let lines = |a: &str, b: &str, user: u64, rip: &str| {
            [
                format!(
                    "d1v0 ALIAS id=1 frame={a} cause=x rip={rip} why=\"pin: frame {a} can't, entry 2 of L2 table {b} ({a}{:03x})\"",
                    3 | user
                ),
                format!("d1v0 MAPPING id=1 table={b} entry={a}{:03x} state=dead", 0x63 | user),
                format!("d1v0 MAPPING id=1 end=yes search_us={}", rip.len()),
            ]
        };
        let both = |one: [String; 3], other: [String; 3]| {
            same(&one.each_ref().map(String::as_str), &other.each_ref().map(String::as_str))
        };
        let here = || lines("0xd73", "0xd60", 0, "0xf0");
        assert!(both(here(), lines("0xe73", "0xd73", 4, "0xf04")));
        // Two frames can't become one, nor one two.
        assert!(!both(here(), lines("0xd73", "0xd73", 4, "0xf0")));
        let mut other = here();
        other[0] = other[0].replace("frame 0xd73", "frame 0xd74");
        assert!(!both(here(), other));
    }

    #[test]
    fn all_else_must_be_the_same() {
        let refused = "d1v0 REFUSED op=update cause=not_owned entry=0x5067";
        assert!(same(&[refused], &[refused, "hv INFO x", "d1 START name=a", "d1 | hello"]));
        assert!(!same(&[refused], &[]));
        assert!(!same(&[refused], &[refused, refused]));
        assert!(!same(&[refused], &["d1v0 REFUSED op=update cause=no_frame entry=0x5067"]));
        // Other flags than the user bit count.
        assert!(!same(&[refused], &["d1v0 REFUSED op=update cause=not_owned entry=0x5065"]));
        assert!(!same(&["d1 | STRAY n=1"], &["d1 | STRAY n=2"]));
        // What exists outside only shifts the records' numbers.
        let shifted = ["d1v0 REFUSED id=1 op=update_descriptor", "d1v0 REFUSED id=2 op=update"];
        assert!(same(&["d1v0 REFUSED id=1 op=update"], &shifted));
        assert!(!same(&[], &[]), "nothing compared proves nothing");
    }
}
