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
    /// Other refusals: by operation and cause, most frequent first.
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
    /// How the search for the mappings went: the fields of the record that closes it.
    pub(super) search: Fields,
    /// Fields of each mapping in the way.
    pub(super) mappings: Vec<Fields>,
    /// The guest's latest mark before it: which of its tests this was.
    pub(super) mark: Option<String>,
    /// Where in the guest's source it was asked for.
    pub(super) place: Option<String>,
}

/// Refusals of the same operation for the same cause.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Refusals {
    /// How many.
    pub(super) count: u64,
    /// Domain or vCPU.
    pub(super) who: String,
    /// What was asked for.
    pub(super) op: String,
    /// Why not, in a word.
    pub(super) cause: String,
    /// Why not, in the words of the first of them.
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
    /// Domain, operation, cause.
    refusals: BTreeMap<(u16, String, String), Refusals>,
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
                    search: Fields::new(),
                    mappings: Vec::new(),
                    mark: id.and_then(|id| reading.marks.get(&id).cloned()),
                    place: None,
                });
            }
            (kind::MAPPING, _) => {
                let head = text("id").and_then(|id| reading.by_id.get(&id).copied());
                match head.and_then(|at| self.violations.get_mut(at)) {
                    Some(violation) => {
                        let fields = fields(record).into_iter().filter(|(key, _)| key != "id");
                        if text("end").is_some() {
                            violation.search = fields.filter(|(key, _)| key != "end").collect();
                        } else {
                            violation.mappings.push(fields.collect());
                        }
                    }
                    None => self.skipped.orphans += 1,
                }
            }
            (kind::REFUSED, id) => {
                let number = id.unwrap_or(0);
                self.domain(number).refused += 1;
                let op = text("op").unwrap_or_default();
                let cause = text("cause").unwrap_or_default();
                let first = text("why").unwrap_or_else(|| record.body.into());
                let entry = reading.refusals.entry((number, op.clone(), cause.clone()));
                entry.or_insert(Refusals { count: 0, who, op, cause, first }).count += 1;
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
            let digits = value(fields, "rip")?.strip_prefix("0x")?;
            place(u64::from_str_radix(digits, 16).ok()?)
        };
        for violation in self.violations.iter_mut().filter(|one| one.domain == Some(id)) {
            violation.place = of_rip(&violation.fields);
        }
        for crash in self.crashes.iter_mut().filter(|one| one.domain == Some(id)) {
            crash.place = of_rip(&crash.fields);
        }
    }
}

/// The value of a key.
pub(super) fn value<'a>(fields: &'a Fields, key: &str) -> Option<&'a str> {
    fields.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
}

fn fields(record: &Record<'_>) -> Fields {
    record.fields().map(|(key, value)| (key.into(), value.into())).collect()
}

#[cfg(test)]
#[path = "model_tests.rs"]
mod tests;
