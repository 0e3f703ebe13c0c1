//! From the lines of a log to what is in it.
//!
//! Nothing is taken for granted: records may lack their neighbours, stand in another order (their
//! ids tell what belongs together), be cut, or begin in the middle of a line whose end was lost.
//! What can't be read is counted. A guest can't forge records: what it writes stands behind the
//! head of its own record, or in quotation marks.

use super::model::*;
use pinfold_abi::record::{Record, Who, kind};
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
        let time = record.head.micros as f64 / 1e6;
        self.last = self.last.max(time);
        let who = record.head.who.to_string();
        let text = |key: &str| record.field(key).map(str::to_owned);
        let reason = || text("reason").unwrap_or_else(|| "for no reason given".into());
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
                self.domain(id).ended = format!("shut down: {}", reason());
            }
            (kind::CRASH, _) => {
                if let Some(id) = id {
                    self.domain(id).ended = format!("crashed: {}", reason());
                }
                let (fields, dump) = (fields(record), Vec::new());
                self.crashes.push(Crash { who, domain: id, fields, dump, calls: Vec::new() });
            }
            (kind::CONSOLE, Some(id)) => self.printed(id, record),
            (kind::MARK, Some(id)) => {
                reading.marks.insert(id, text("text").unwrap_or_else(|| record.body.into()));
            }
            (kind::ALIAS, _) => self.violation(reading, record, id, Rule::Alias),
            (kind::CACHE, _) => self.violation(reading, record, id, Rule::Cache),
            (kind::MAPPING, _) => {
                let mut fields = fields(record);
                let number = fields.take("id").as_deref().and_then(number);
                let part = if fields.take("end").is_some() {
                    Part::Search(fields)
                } else {
                    Part::Mapping(Mapping::of(fields))
                };
                self.part(reading, number, part);
            }
            (kind::HEALED, _) => self.part(reading, record.number("id"), Part::Healed),
            (kind::FRAMES, Some(id)) => self.frames(id, record),
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
            (kind::DROPPED, id) => {
                // Number 0 stands for the hypervisor's own.
                self.domain(id.unwrap_or(0)).dropped += record.number("records").unwrap_or(1);
            }
            (kind::END, _) => self.end = fields(record),
            _ => {}
        }
    }

    /// The head of a violation; what came before it joins it.
    fn violation(
        &mut self,
        reading: &mut Reading,
        record: &Record<'_>,
        domain: Option<u16>,
        rule: Rule,
    ) {
        if let Some(id) = domain {
            self.domain(id).violations += 1;
        }
        let id = record.number("id");
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

    /// A line of a guest's console.
    fn printed(&mut self, domain: u16, record: &Record<'_>) {
        let line = record.body.trim();
        if let Some(verdict) = line.strip_prefix("VERDICT ") {
            self.domain(domain).verdict = Some(verdict.into());
        } else if let Some(rest) = line.strip_prefix("SCENARIO ") {
            let scenario = rest.split(' ').next().unwrap_or_default().to_owned();
            let mut fields = fields(record);
            let form = fields.take("form").unwrap_or_default();
            self.scenarios.push(Scenario { domain, scenario, form, fields });
        } else if line.starts_with("CURVE ") {
            let mut fields = fields(record);
            let policy = fields.take("policy").unwrap_or_default();
            let Some(outstanding) = fields.take("outstanding").as_deref().and_then(number) else {
                return;
            };
            let figure = |(key, value): (String, String)| {
                Some((key, value.parse().ok().filter(|value: &f64| value.is_finite())?))
            };
            let values = fields.0.into_iter().filter_map(figure).collect();
            self.curves.push(Point { domain, policy, outstanding, values });
        }
    }

    /// A part of a domain's frame map. One that doesn't add up is damaged: it is shown as far as
    /// it goes.
    fn frames(&mut self, domain: u16, record: &Record<'_>) {
        let mut fields = fields(record);
        let (Some(first), Some(frames)) = (fields.number("first"), fields.number("frames")) else {
            self.skipped.damaged += 1;
            return;
        };
        let (mut at, end) = (first, first.saturating_add(frames));
        let mut runs = Vec::new();
        for run in pinfold_abi::frame_map::runs(&fields.take("map").unwrap_or_default()) {
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
        match (self.panics.last_mut(), record.number("frame"), record.number("rip")) {
            (Some(panic), Some(_), Some(address)) => {
                panic.backtrace.push(Frame { address, calls: Vec::new() });
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

/// Every quotation mark of the line has its partner.
fn is_balanced(line: &str) -> bool {
    line.bytes().filter(|&byte| byte == b'"').count() % 2 == 0
}

/// Where in a line another record begins, after its first byte. Within quotation marks only if one
/// is missing; never in what a guest printed.
fn glued_at(line: &str) -> Option<usize> {
    let own = Record::parse(line);
    if own.is_some_and(|record| matches!(record.head.kind, kind::CONSOLE | kind::PANIC)) {
        return None;
    }
    let whole = is_balanced(line);
    let mut quoted = false;
    for (at, byte) in line.bytes().enumerate().skip(1) {
        quoted ^= byte == b'"';
        if byte == b'[' && !(whole && quoted) && Record::parse(&line[at..]).is_some() {
            return Some(at);
        }
    }
    None
}

fn fields(record: &Record<'_>) -> Fields {
    Fields(record.fields().map(|(key, value)| (key.into(), value.into())).collect())
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
