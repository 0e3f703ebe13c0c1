//! What is in a log.

use pinfold_abi::record::{Record, Who, kind};
use serde::Serialize;
use std::collections::BTreeMap;

/// Fields of a record, in order.
pub(super) type Fields = Vec<(String, String)>;

/// A whole log.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Report {
    /// The domains, by number.
    pub(super) domains: Vec<Domain>,
    /// Pins and updates that met an alias.
    pub(super) violations: Vec<Violation>,
    /// Other refusals, alike ones together, most frequent first.
    pub(super) refusals: Vec<Refusals>,
    /// Domains that the hypervisor ended.
    pub(super) crashes: Vec<Crash>,
    /// The hypervisor's own panics; more than one only if logs were joined.
    pub(super) panics: Vec<Panic>,
    /// Fields of the END record: empty if the log was cut before it.
    pub(super) end: Fields,
    /// What could not be read.
    pub(super) skipped: Skipped,
}

/// A domain's summary.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Domain {
    /// Its number.
    pub(super) id: u16,
    /// Its name.
    pub(super) name: String,
    /// How it ended, as far as the log says.
    pub(super) ended: String,
    /// What it said of itself.
    pub(super) verdict: Option<String>,
    /// Its ALIAS records.
    pub(super) aliases: u64,
    /// Its REFUSED records.
    pub(super) refused: u64,
    /// Its records that were left out.
    pub(super) dropped: u64,
}

/// An ALIAS record and the MAPPING records that belong to it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Violation {
    /// Seconds since boot.
    pub(super) time: f64,
    /// Domain or vCPU.
    pub(super) who: String,
    /// The domain's number.
    pub(super) domain: Option<u16>,
    /// Fields of the head.
    pub(super) fields: Fields,
    /// Fields of each mapping in the way.
    pub(super) mappings: Vec<Fields>,
    /// The guest's latest mark before it: which of its tests this was.
    pub(super) mark: Option<String>,
    /// Where in the guest's source it was asked for.
    pub(super) place: Option<String>,
}

/// Refusals that differ in numbers only.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Refusals {
    /// How many.
    pub(super) count: u64,
    /// Domain.
    pub(super) who: String,
    /// The first one's fields and words.
    pub(super) first: String,
}

/// A CRASH record and its dump.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Crash {
    /// Domain or vCPU.
    pub(super) who: String,
    /// The domain's number.
    pub(super) domain: Option<u16>,
    /// Its fields.
    pub(super) fields: Fields,
    /// Lines of registers and stack.
    pub(super) dump: Vec<String>,
    /// Where in the guest's source it was.
    pub(super) place: Option<String>,
}

/// A PANIC record and what follows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Panic {
    /// Its words.
    pub(super) text: String,
    /// Registers.
    pub(super) dump: Vec<String>,
    /// The calls, innermost first.
    pub(super) backtrace: Vec<Frame>,
}

/// A call of a backtrace.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Frame {
    /// The address.
    pub(super) address: u64,
    /// Its name, if there are symbols.
    pub(super) place: Option<String>,
}

/// What could not be read.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Skipped {
    /// Lines before the first record: firmware.
    pub(super) before: u64,
    /// Later lines that are no records.
    pub(super) garbled: u64,
    /// MAPPING and DUMP records whose head is not in the log.
    pub(super) orphans: u64,
}

/// What the lines under way belong to.
#[derive(Default)]
struct Reading {
    marks: BTreeMap<u16, String>,
    /// Violations by the id of their records.
    by_id: BTreeMap<String, usize>,
    refusals: BTreeMap<(u16, String), Refusals>,
    begun: bool,
    /// The line before was a PANIC record: its words may go on.
    in_panic: bool,
}

impl Report {
    /// Reads a log, whatever its state.
    pub(super) fn read(log: &str) -> Report {
        let mut report = Report::default();
        let mut reading = Reading::default();
        for line in log.lines().filter(|line| !line.trim().is_empty()) {
            match Record::parse(line) {
                Some(record) => {
                    reading.begun = true;
                    reading.in_panic = record.head.kind == kind::PANIC;
                    report.record(&mut reading, &record);
                }
                None if !reading.begun => report.skipped.before += 1,
                None if reading.in_panic => {
                    if let Some(panic) = report.panics.last_mut() {
                        panic.text.push(' ');
                        panic.text.push_str(line.trim());
                    }
                }
                None => report.skipped.garbled += 1,
            }
        }
        report.refusals = reading.refusals.into_values().collect();
        report.refusals.sort_by_key(|refusals| std::cmp::Reverse(refusals.count));
        report
    }

    fn record(&mut self, reading: &mut Reading, record: &Record<'_>) {
        let id = match record.head.who {
            Who::Domain(id) | Who::Vcpu(id, _) => Some(id),
            Who::Hypervisor => None,
        };
        let who = record.head.who.to_string();
        let text = |key: &str| record.field(key).map(str::to_owned);
        match (record.head.kind, id) {
            (kind::START, Some(id)) => {
                let domain = self.domain(id);
                domain.name = text("name").unwrap_or_default();
                domain.ended = "still running when the log ends".into();
            }
            (kind::NOSTART, id) => {
                let reason = text("reason").unwrap_or_else(|| record.body.into());
                let domain = self.domain(id.unwrap_or(0));
                domain.name = text("name").unwrap_or_default();
                domain.ended = format!("refused: {reason}");
            }
            (kind::SHUTDOWN, Some(id)) => {
                let reason = text("reason").unwrap_or_else(|| "for no reason given".into());
                self.domain(id).ended = format!("shut down: {reason}");
            }
            (kind::CRASH, _) => {
                if let Some(id) = id {
                    let reason = text("reason").unwrap_or_else(|| "for no reason given".into());
                    self.domain(id).ended = format!("crashed: {reason}");
                }
                let (fields, dump) = (fields(record), Vec::new());
                self.crashes.push(Crash { who, domain: id, fields, dump, place: None });
            }
            (kind::CONSOLE, Some(id)) => {
                if let Some(verdict) = record.body.trim().strip_prefix("VERDICT ") {
                    self.domain(id).verdict = Some(verdict.into());
                }
            }
            (kind::MARK, Some(id)) => {
                reading.marks.insert(id, text("text").unwrap_or_else(|| record.body.into()));
            }
            (kind::ALIAS, id) => {
                if let Some(id) = id {
                    self.domain(id).aliases += 1;
                }
                if let Some(number) = text("id") {
                    reading.by_id.insert(number, self.violations.len());
                }
                self.violations.push(Violation {
                    time: record.head.micros as f64 / 1e6,
                    who,
                    domain: id,
                    fields: fields(record),
                    mappings: Vec::new(),
                    mark: id.and_then(|id| reading.marks.get(&id).cloned()),
                    place: None,
                });
            }
            (kind::MAPPING, _) => {
                let head = text("id").and_then(|id| reading.by_id.get(&id).copied());
                match head.and_then(|at| self.violations.get_mut(at)) {
                    Some(violation) => violation
                        .mappings
                        .push(fields(record).into_iter().filter(|(key, _)| key != "id").collect()),
                    None => self.skipped.orphans += 1,
                }
            }
            (kind::REFUSED, id) => {
                let number = id.unwrap_or(0);
                self.domain(number).refused += 1;
                let body = without_id(record.body);
                let entry = reading.refusals.entry((number, shape(&body)));
                entry.or_insert(Refusals { count: 0, who, first: body }).count += 1;
            }
            (kind::PANIC, _) => self.panics.push(Panic {
                text: record.body.into(),
                dump: Vec::new(),
                backtrace: Vec::new(),
            }),
            (kind::DUMP, id) => self.dump(id, record),
            (kind::DROPPED, Some(id)) => {
                self.domain(id).dropped += record.number("records").unwrap_or(1);
            }
            (kind::END, _) => self.end = fields(record),
            _ => {}
        }
    }

    /// A dump belongs to the latest crash of its domain, the hypervisor's to its panic.
    fn dump(&mut self, id: Option<u16>, record: &Record<'_>) {
        if let Some(id) = id {
            match self.crashes.iter_mut().rev().find(|crash| crash.domain == Some(id)) {
                Some(crash) => crash.dump.push(record.body.into()),
                None => self.skipped.orphans += 1,
            }
            return;
        }
        match (self.panics.last_mut(), record.number("frame"), record.number("rip")) {
            (Some(panic), Some(_), Some(address)) => {
                panic.backtrace.push(Frame { address, place: None });
            }
            (Some(panic), ..) => panic.dump.push(record.body.into()),
            (None, ..) => self.skipped.orphans += 1,
        }
    }

    /// The domain of a number, made if it is new. Number 0 stands for what belongs to none.
    fn domain(&mut self, id: u16) -> &mut Domain {
        let at = match self.domains.binary_search_by_key(&id, |domain| domain.id) {
            Ok(at) => at,
            Err(at) => {
                let ended = "never started, as far as the log says".into();
                self.domains.insert(at, Domain { id, ended, ..Domain::default() });
                at
            }
        };
        &mut self.domains[at]
    }

    /// Puts names to the addresses of a domain's own code.
    pub(super) fn name_guest(&mut self, id: u16, place: impl Fn(u64) -> Option<String>) {
        let of_rip = |fields: &Fields| {
            let (_, value) = fields.iter().find(|(key, _)| key == "rip")?;
            place(u64::from_str_radix(value.strip_prefix("0x")?, 16).ok()?)
        };
        for violation in self.violations.iter_mut().filter(|one| one.domain == Some(id)) {
            violation.place = of_rip(&violation.fields);
        }
        for crash in self.crashes.iter_mut().filter(|one| one.domain == Some(id)) {
            crash.place = of_rip(&crash.fields);
        }
    }
}

fn fields(record: &Record<'_>) -> Fields {
    record.fields().map(|(key, value)| (key.into(), value.into())).collect()
}

/// A body without its `id=`, which makes every record unlike every other.
fn without_id(body: &str) -> String {
    let words = body.split(' ').filter(|word| !word.starts_with("id="));
    words.collect::<Vec<_>>().join(" ")
}

/// What alike bodies have in common: their text with every number taken out. A word that has a
/// digit anywhere behind its `=` counts as one, so that frames and addresses do not matter.
fn shape(body: &str) -> String {
    let mut shape = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        shape.push_str(&rest[..at]);
        shape.push('#');
        rest = rest[at..].trim_start_matches(|c: char| c.is_ascii_hexdigit() || c == 'x');
    }
    shape + rest
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
