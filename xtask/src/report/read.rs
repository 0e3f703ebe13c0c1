//! From the lines of a log to what is in it.
//!
//! Nothing is taken for granted: records may lack their neighbours, stand in another order (their
//! ids tell what belongs together), be cut, or begin in the middle of a line whose end was lost.
//! What can't be read is counted. A guest can't forge records: what it writes stands behind the
//! head of its own record, or in quotation marks.

mod damaged;
mod lines;
mod printed;

use super::model::*;
use lines::{glued_at, is_balanced};
use pinfold_abi::record::{self, CrashIdle, Event, FrameUses, Map, NoStart, Record, Who, kind};
use std::collections::BTreeMap;

/// What the lines under way belong to.
#[derive(Default)]
struct Reading {
    marks: BTreeMap<u16, String>,
    /// Violations by the id of their records.
    by_id: BTreeMap<u64, usize>,
    /// What came before the head that it belongs to.
    early: BTreeMap<u64, Vec<Part>>,
    /// Domain, operation, cause.
    refusals: BTreeMap<(u16, String, String), Refusals>,
    begun: bool,
    /// The line before was a PANIC record: its words may go on.
    in_panic: bool,
}

/// A record that belongs to a violation.
enum Part {
    Mapping(Mapping),
    Search(Fields),
    Healed,
}

impl Report {
    /// Reads a log, whatever its state. Ends of lines may be of any kind; what stands behind the
    /// last one is an unfinished line.
    pub(super) fn read(log: &str) -> Report {
        let mut report = Report { version: VERSION, ..Report::default() };
        let mut reading = Reading::default();
        let (whole, rest) = log.split_at(log.rfind('\n').map_or(0, |end| end + 1));
        report.skipped.unfinished = u64::from(!rest.trim().is_empty());
        for line in whole.lines().filter(|line| !line.trim().is_empty()) {
            report.line(&mut reading, line);
        }
        report.skipped.orphans +=
            reading.early.values().map(|parts| parts.len() as u64).sum::<u64>();
        report.refusals = reading.refusals.into_values().collect();
        report.refusals.sort_by_key(|refusals| std::cmp::Reverse(refusals.count));
        report.frame_maps.iter_mut().for_each(|map| map.runs.sort_by_key(|run| run.first));
        report.diagnose();
        report
    }

    fn line(&mut self, reading: &mut Reading, line: &str) {
        let mut rest = Some(line);
        let mut first = true;
        while let Some(text) = rest.take() {
            let glued = glued_at(text);
            let (own, next) = glued.map_or((text, None), |at| (&text[..at], Some(&text[at..])));
            match Record::parse(own) {
                Some(record) => {
                    reading.begun = true;
                    reading.in_panic = record.head.kind == kind::PANIC;
                    self.skipped.mended += u64::from(!first);
                    let free = matches!(record.head.kind, kind::CONSOLE | kind::PANIC);
                    self.skipped.damaged += u64::from(!free && !is_balanced(own));
                    self.record(reading, &record);
                }
                None if !reading.begun && next.is_none() => self.skipped.before += 1,
                None if reading.in_panic && next.is_none() => {
                    if let Some(panic) = self.panics.last_mut() {
                        panic.text.push(' ');
                        panic.text.push_str(own.trim());
                    }
                }
                None => self.skipped.garbled += 1,
            }
            rest = next;
            first = false;
        }
    }

    fn record(&mut self, reading: &mut Reading, record: &Record<'_>) {
        let id = match record.head.who {
            Who::Domain(id) | Who::Vcpu(id, _) => Some(id),
            Who::Hypervisor => None,
        };
        self.last = self.last.max(record.head.micros as f64 / 1e6);
        let Ok(event) = Event::read(record) else { return self.damaged(reading, record, id) };
        match (event, id) {
            (Event::Start(start), Some(id)) => self.start(id, start.name.as_str()),
            (Event::NoStart(NoStart { name, reason }), id) => {
                self.no_start(id, name.as_str(), reason.as_str());
            }
            (Event::Shutdown(end), Some(id)) => {
                self.domain(id).ended = format!("shut down: {}", end.reason);
            }
            (
                Event::Crash(record::Crash { reason, .. })
                | Event::CrashIdle(CrashIdle { reason, .. }),
                id,
            ) => self.crash(record, id, reason.as_str()),
            (Event::Console(text), Some(id)) => self.printed(id, text),
            (Event::MarkText(mark), Some(id)) => {
                reading.marks.insert(id, mark.text.as_str().into());
            }
            (Event::Alias(alias), id) => {
                self.violation(reading, record, id, Rule::Alias, Some(alias.id));
            }
            (Event::Cache(cache), id) => {
                self.violation(reading, record, id, Rule::Cache, Some(cache.id));
            }
            (Event::Mapping(mapping), _) => {
                let part = Part::Mapping(Mapping::of(&mapping, fields(record)));
                self.part(reading, Some(mapping.id), part);
            }
            (Event::SearchEnd(end), _) => {
                self.part(reading, Some(end.id), Part::Search(search_fields(record)));
            }
            (Event::Healed(healed), _) => self.part(reading, Some(healed.id), Part::Healed),
            (Event::FrameUses(FrameUses { first, frames, map }), Some(id)) => {
                self.frames(id, first.get(), frames, map);
            }
            (Event::Refused(refused), id) => {
                let (op, cause) = (refused.evidence.op, refused.evidence.cause);
                self.refusal(reading, record, id, op, cause, refused.why.as_str());
            }
            (Event::DumpFrame(frame), None) => self.backtrace(frame.rip.0),
            (Event::Dropped(dropped), id) => self.dropped(id, dropped.records),
            (Event::End(_), _) => self.end = fields(record),
            (_, id) => match record.head.kind {
                kind::PANIC => self.panics.push(Panic {
                    text: record.body.into(),
                    dump: Vec::new(),
                    backtrace: Vec::new(),
                }),
                kind::DUMP => self.dump(id, record),
                // One of a manifest that cannot be read is free text.
                kind::NOSTART => self.damaged(reading, record, id),
                _ => {}
            },
        }
    }

    fn start(&mut self, id: u16, name: &str) {
        let domain = self.domain(id);
        domain.name = name.into();
        domain.ended = "still running when the log ends".into();
    }

    fn no_start(&mut self, id: Option<u16>, name: &str, reason: &str) {
        let domain = self.domain(id.unwrap_or(0));
        domain.name = name.into();
        domain.ended = format!("refused: {reason}");
    }

    fn crash(&mut self, record: &Record<'_>, domain: Option<u16>, reason: &str) {
        if let Some(id) = domain {
            self.domain(id).ended = format!("crashed: {reason}");
        }
        self.crashes.push(Crash {
            who: record.head.who.to_string(),
            domain,
            fields: fields(record),
            dump: Vec::new(),
            calls: Vec::new(),
        });
    }

    /// Records that were left out.
    fn dropped(&mut self, id: Option<u16>, records: u64) {
        // Number 0 stands for the hypervisor's own.
        self.domain(id.unwrap_or(0)).dropped += records;
    }

    /// A refusal; those that are alike are counted together.
    fn refusal(
        &mut self,
        reading: &mut Reading,
        record: &Record<'_>,
        id: Option<u16>,
        op: &str,
        cause: &str,
        why: &str,
    ) {
        let number = id.unwrap_or(0);
        self.domain(number).refused += 1;
        let entry = reading.refusals.entry((number, op.into(), cause.into()));
        let refusals = entry.or_insert_with(|| Refusals {
            count: 0,
            who: record.head.who.to_string(),
            op: op.into(),
            cause: cause.into(),
            first: why.into(),
        });
        refusals.count += 1;
    }

    /// The head of a violation; what came before it joins it.
    fn violation(
        &mut self,
        reading: &mut Reading,
        record: &Record<'_>,
        domain: Option<u16>,
        rule: Rule,
        id: Option<u64>,
    ) {
        if let Some(id) = domain {
            self.domain(id).violations += 1;
        }
        let at = self.violations.len();
        self.violations.push(Violation {
            id,
            rule,
            time: record.head.micros as f64 / 1e6,
            who: record.head.who.to_string(),
            domain,
            diagnosis: super::diagnosis::Diagnosis::default(),
            fields: fields(record),
            search: Fields::default(),
            mappings: Vec::new(),
            healed: false,
            mark: domain.and_then(|id| reading.marks.get(&id).cloned()),
            calls: Vec::new(),
        });
        if let Some(id) = id {
            reading.by_id.insert(id, at);
            let early = reading.early.remove(&id).unwrap_or_default();
            early.into_iter().for_each(|part| self.part(reading, Some(id), part));
        }
    }

    /// A record that belongs to a violation, or waits for it.
    fn part(&mut self, reading: &mut Reading, id: Option<u64>, part: Part) {
        let Some(id) = id else {
            self.skipped.orphans += 1;
            return;
        };
        let known = reading.by_id.get(&id).copied();
        match (known.and_then(|at| self.violations.get_mut(at)), part) {
            (Some(violation), Part::Mapping(mapping)) => violation.mappings.push(mapping),
            (Some(violation), Part::Search(fields)) => violation.search = fields,
            (Some(violation), Part::Healed) => violation.healed = true,
            (None, part) => reading.early.entry(id).or_default().push(part),
        }
    }

    /// A part of a domain's frame map. One that doesn't add up is damaged: it is shown as far as
    /// it goes.
    fn frames(&mut self, domain: u16, first: u64, frames: u64, map: Map<'_>) {
        let (mut at, end) = (first, first.saturating_add(frames));
        let mut runs = Vec::new();
        for run in map.iter() {
            let frames = run.frames.min(end - at);
            if frames == 0 {
                break;
            }
            runs.push(Run { first: at, frames, usage: run.usage.letter() });
            at += frames;
        }
        self.skipped.damaged += u64::from(at != end);
        let known = self.frame_maps.iter().position(|map| map.domain == domain);
        let place = known.unwrap_or_else(|| {
            self.frame_maps.push(FrameMap { domain, runs: Vec::new() });
            self.frame_maps.len() - 1
        });
        let map = &mut self.frame_maps[place];
        // A guest may have asked for several dumps: the latest counts.
        map.runs.retain(|run| run.first >= end || run.first + run.frames <= first);
        map.runs.append(&mut runs);
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
        match self.panics.last_mut() {
            Some(panic) => panic.dump.push(record.body.into()),
            None => self.skipped.orphans += 1,
        }
    }

    /// A return address on the hypervisor's own stack, of its panic.
    fn backtrace(&mut self, address: u64) {
        match self.panics.last_mut() {
            Some(panic) => panic.backtrace.push(Frame { address, calls: Vec::new() }),
            None => self.skipped.orphans += 1,
        }
    }

    /// The domain of a number, made if it is new. Number 0 stands for what belongs to none.
    fn domain(&mut self, id: u16) -> &mut Domain {
        let at = match self.domains.binary_search_by_key(&id, |domain| domain.id) {
            Ok(at) => at,
            Err(at) => {
                let ended = match id {
                    0 => "no domain: the hypervisor's own",
                    _ => "never started, as far as the log says",
                };
                let ended = ended.into();
                self.domains.insert(at, Domain { id, ended, ..Domain::default() });
                at
            }
        };
        &mut self.domains[at]
    }

    /// Puts names to the addresses of a domain's own code: `stack` has the names for an address
    /// and for the return addresses that were found above it.
    pub(super) fn name_guest(&mut self, id: u16, stack: impl Fn(u64, &[u64]) -> Vec<Call>) {
        let named = |fields: &Fields| {
            let callers = fields.get("callers").unwrap_or_default();
            let callers: Vec<u64> = callers.split(',').filter_map(number).collect();
            fields.number("rip").map(|rip| stack(rip, &callers)).unwrap_or_default()
        };
        for violation in self.violations.iter_mut().filter(|one| one.domain == Some(id)) {
            violation.calls = named(&violation.fields);
        }
        for crash in self.crashes.iter_mut().filter(|one| one.domain == Some(id)) {
            crash.calls = named(&crash.fields);
        }
    }
}

fn fields(record: &Record<'_>) -> Fields {
    fields_of(record.body)
}

fn fields_of(text: &str) -> Fields {
    Fields(record::Fields::of(text).map(|(key, value)| (key.into(), value.into())).collect())
}

/// What the record that ends a search says of it.
fn search_fields(record: &Record<'_>) -> Fields {
    let mut fields = fields(record);
    fields.take("id");
    fields.take("end");
    fields
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
