//! What is in a log: the form that text, pages and JSON are made from.
//!
//! It is the JSON too: `docs/report-schema.json` is made from these types and their comments. A
//! change that a reader of the JSON could stumble over gets another [`VERSION`].

use super::diagnosis::Diagnosis;
use super::summary::Group;
use pinfold_abi::record::{self, LogRecord as _};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// The version of the JSON.
pub(super) const VERSION: u32 = 1;

/// Fields `key=value` of a record, in their order. Of a key that stands twice, the first counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields(pub(super) Vec<(String, String)>);

impl Fields {
    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// The value of a key that is a number, decimal or `0x` hexadecimal.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.get(key).and_then(number)
    }

    /// Takes a field out.
    pub(super) fn take(&mut self, key: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == key)?;
        Some(self.0.remove(at).1)
    }

    /// As they stood in the record.
    pub(super) fn joined(&self) -> String {
        let shown = self.0.iter().map(|(key, value)| {
            if value.contains(' ') || value.is_empty() {
                format!("{key}=\"{value}\"")
            } else {
                format!("{key}={value}")
            }
        });
        shown.collect::<Vec<_>>().join(" ")
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Through a map: a JSON object has each key once.
        let mut once = BTreeMap::new();
        for (key, value) in &self.0 {
            once.entry(key).or_insert(value);
        }
        once.serialize(serializer)
    }
}

impl JsonSchema for Fields {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Fields".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Fields `key=value` of a log record, as they stand there.",
            "type": "object",
            "additionalProperties": { "type": "string" }
        })
    }
}

/// A number as the log has it, decimal or `0x` hexadecimal.
pub(super) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A whole log. Frames and addresses are text (`0x1a2b`), since they don't fit in what JSON readers
/// take numbers for; times are seconds since boot.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(super) struct Report {
    /// The version of this form.
    pub(super) version: u32,
    /// Violations that are alike, most frequent first.
    pub(super) summary: Vec<Group>,
    /// The domains, by number.
    pub(super) domains: Vec<Domain>,
    /// Pins, updates and mappings that met a mapping in the way, in the order of the log.
    pub(super) violations: Vec<Violation>,
    /// Other refusals: by operation and cause, most frequent first.
    pub(super) refusals: Vec<Refusals>,
    /// What guests said of their scenarios (`SCENARIO` lines).
    pub(super) scenarios: Vec<Scenario>,
    /// What guests measured of their policies (`CURVE` lines).
    pub(super) curves: Vec<Point>,
    /// What the domains' frames were when they ended.
    pub(super) frame_maps: Vec<FrameMap>,
    /// Domains that the hypervisor ended.
    pub(super) crashes: Vec<Crash>,
    /// The hypervisor's own panics; more than one only if logs were joined.
    pub(super) panics: Vec<Panic>,
    /// Fields of the END record: empty if the log was cut before it.
    pub(super) end: Fields,
    /// Time of the last record.
    pub(super) last: f64,
    /// What could not be read.
    pub(super) skipped: Skipped,
}

/// A domain's summary.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(super) struct Domain {
    /// Its number.
    pub(super) id: u16,
    /// Its name.
    pub(super) name: String,
    /// How it ended, as far as the log says.
    pub(super) ended: String,
    /// What it said of itself.
    pub(super) verdict: Option<String>,
    /// Its ALIAS and CACHE records.
    pub(super) violations: u64,
    /// Its REFUSED records.
    pub(super) refused: u64,
    /// Its records that were left out.
    pub(super) dropped: u64,
}

/// Which rule was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Rule {
    /// A page table (or descriptor table) may have no writable mapping.
    Alias,
    /// All mappings of a frame have one memory type.
    Cache,
}

/// An ALIAS or CACHE record and the MAPPING records that belong to it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Violation {
    /// Its number in the log; what `explain` wants.
    pub(super) id: Option<u64>,
    /// Which rule was broken.
    pub(super) rule: Rule,
    /// Seconds since boot.
    pub(super) time: f64,
    /// Domain or vCPU.
    pub(super) who: String,
    /// The domain's number.
    pub(super) domain: Option<u16>,
    /// What kind of mapping is in the way, by the evidence.
    pub(super) diagnosis: Diagnosis,
    /// Fields of the head.
    pub(super) fields: Fields,
    /// How the search for the mappings went: the fields of the record that closes it.
    pub(super) search: Fields,
    /// The mappings in the way.
    pub(super) mappings: Vec<Mapping>,
    /// The guest cleared the mappings when it was told of them, and the second try went through.
    pub(super) healed: bool,
    /// The guest's latest mark before it: which of its tests this was.
    pub(super) mark: Option<String>,
    /// Where in the guest's source it was asked for: the calls that led there, innermost first.
    pub(super) calls: Vec<Call>,
}

impl Violation {
    /// What was asked for.
    pub(super) fn op(&self) -> &str {
        self.fields.get("op").unwrap_or("an operation")
    }

    /// The frame, as the log writes it.
    pub(super) fn frame(&self) -> &str {
        self.fields.get("frame").unwrap_or("?")
    }

    /// The calls that say most about who asked: the first that aren't of the shim.
    pub(super) fn askers(&self) -> &[Call] {
        let own = |call: &Call| !call.file.starts_with("guest-shim/");
        let first = self.calls.iter().position(own).unwrap_or(0);
        let last = (first + ASKERS).min(self.calls.len());
        &self.calls[first..last]
    }
}

/// Calls that tell kinds of violations apart: one may be a helper of the guest's own.
const ASKERS: usize = 2;

/// What the guest says of a mapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// It is in use, as far as the guest has told.
    Live,
    /// The log doesn't say.
    #[default]
    Unknown,
    /// The guest has freed it, and only not cleared its entry yet.
    Dead,
}

impl State {
    /// The word of the log.
    pub(super) fn word(self) -> &'static str {
        match self {
            State::Live => "live",
            State::Unknown => "unknown",
            State::Dead => "dead",
        }
    }
}

/// A mapping in the way.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub(super) struct Mapping {
    /// Its virtual address, if its table hangs in an address space.
    pub(super) va: Option<String>,
    /// The frame of the table that has the entry.
    pub(super) table: Option<String>,
    /// The entry's slot.
    pub(super) index: Option<u64>,
    /// The entry.
    pub(super) entry: Option<String>,
    /// The guest's name for the range it lies in.
    pub(super) region: Option<String>,
    /// What the guest says of it.
    pub(super) state: State,
    /// Its memory type, where that isn't write-back.
    pub(super) memory_type: Option<String>,
    /// The other domain whose mapping it is.
    pub(super) borrower: Option<String>,
    /// What else the record says.
    pub(super) other: Fields,
}

impl Mapping {
    /// From its record and all the fields there.
    pub(super) fn of(record: &record::Mapping<'_>, mut fields: Fields) -> Mapping {
        record::Mapping::keys(&mut |known| drop(fields.take(known)));
        Mapping {
            va: record.va.0.map(|va| va.to_string()),
            table: Some(record.table.to_string()),
            index: Some(record.index.into()),
            entry: Some(record.entry.to_string()),
            region: record.region.0.map(|region| region.as_str().into()),
            state: record.state.into(),
            memory_type: record.memory_type.map(str::to_owned),
            borrower: record.borrower.map(|domain| domain.to_string()),
            other: fields,
        }
    }

    /// From the fields of a record that lacks some or has garbled ones.
    pub(super) fn of_damaged(mut fields: Fields) -> Mapping {
        fields.take("id");
        let mut text = |key: &str| fields.take(key).filter(|value| value != "none");
        let state = match text("state").as_deref() {
            Some("dead") => State::Dead,
            Some("live") => State::Live,
            _ => State::Unknown,
        };
        Mapping {
            va: text("va"),
            table: text("table"),
            index: text("index").as_deref().and_then(number),
            entry: text("entry"),
            region: text("region"),
            memory_type: text("type"),
            borrower: text("borrower"),
            state,
            other: fields,
        }
    }
}

impl From<record::MappingState> for State {
    fn from(state: record::MappingState) -> State {
        match state {
            record::MappingState::Live => State::Live,
            record::MappingState::Dead => State::Dead,
            record::MappingState::Unknown => State::Unknown,
        }
    }
}

/// Refusals of the same operation for the same cause.
#[derive(Clone, Debug, Serialize, JsonSchema)]
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

/// A line of a guest about one of its scenarios of stray mappings.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Scenario {
    /// The domain's number.
    pub(super) domain: u16,
    /// The scenario's number or name.
    pub(super) scenario: String,
    /// `broken` or `fixed`.
    pub(super) form: String,
    /// The other fields.
    pub(super) fields: Fields,
}

/// A point of a cost curve.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Point {
    /// The domain's number.
    pub(super) domain: u16,
    /// The guest's policy of clearing dead mappings.
    pub(super) policy: String,
    /// Lazy mappings outstanding.
    pub(super) outstanding: u64,
    /// The other fields that are numbers.
    pub(super) values: BTreeMap<String, f64>,
}

/// What a domain's frames are.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct FrameMap {
    /// The domain's number.
    pub(super) domain: u16,
    /// Runs of frames that are in use as the same, in the order of their numbers.
    pub(super) runs: Vec<Run>,
}

/// Frames in a row that are in use as the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Run {
    /// The first.
    pub(super) first: u64,
    /// How many.
    pub(super) frames: u64,
    /// The letter of what they are in use as: `.` not the domain's, `-` idle, `w` writable, `1` to
    /// `4` tables, `u` becoming or unbecoming a table, `d` descriptors, `s` shared by the
    /// hypervisor.
    pub(super) usage: char,
}

/// A CRASH record and its dump.
#[derive(Clone, Debug, Serialize, JsonSchema)]
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
    pub(super) calls: Vec<Call>,
}

/// A PANIC record and what follows it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Panic {
    /// Its words.
    pub(super) text: String,
    /// Registers.
    pub(super) dump: Vec<String>,
    /// The calls, innermost first.
    pub(super) backtrace: Vec<Frame>,
}

/// A call of a backtrace.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Frame {
    /// The address.
    #[serde(serialize_with = "hexadecimal")]
    #[schemars(with = "String")]
    pub(super) address: u64,
    /// The functions there, innermost first, if there are symbols.
    pub(super) calls: Vec<Call>,
}

fn hexadecimal<S: Serializer>(address: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{address:#018x}"))
}

/// A place in a source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub(super) struct Call {
    /// The function.
    pub(super) function: String,
    /// The file; empty if only the function is known.
    pub(super) file: String,
    /// The line, counted from 1.
    pub(super) line: Option<u32>,
}

impl Call {
    /// The function, and as much of the place as tells files of one guest apart.
    pub(super) fn brief(&self) -> String {
        let parts: Vec<&str> =
            self.file.rsplit('/').take(2).filter(|part| *part != "src").collect();
        let file = parts.into_iter().rev().collect::<Vec<_>>().join("/");
        match self.line {
            _ if file.is_empty() => self.function.clone(),
            Some(line) => format!("{}, {file}:{line}", self.function),
            None => format!("{}, {file}", self.function),
        }
    }
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.function)?;
        match self.line {
            _ if self.file.is_empty() => Ok(()),
            Some(line) => write!(f, " at {}:{line}", self.file),
            None => write!(f, " at {}", self.file),
        }
    }
}

/// Calls, innermost first, in words.
pub(super) fn chain(calls: &[Call]) -> Option<String> {
    let shown: Vec<String> = calls.iter().map(ToString::to_string).collect();
    (!shown.is_empty()).then(|| shown.join(", in "))
}

/// What could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Skipped {
    /// Lines before the first record: firmware.
    pub(super) before: u64,
    /// Later lines that are no records.
    pub(super) garbled: u64,
    /// Records that begin in the middle of a line, as when a line end was lost. They are read.
    pub(super) mended: u64,
    /// Records with a quotation mark that is never closed: read as far as they go.
    pub(super) damaged: u64,
    /// MAPPING, HEALED and DUMP records whose head is not in the log.
    pub(super) orphans: u64,
    /// 1 if the log ends in the middle of a line; the line is not read.
    pub(super) unfinished: u64,
}

impl Skipped {
    /// In words; `None` if nothing was passed over.
    pub(super) fn words(&self) -> Option<String> {
        let of = |count: u64, one: &str, many: &str| {
            (count > 0).then(|| format!("{count} {}", if count == 1 { one } else { many }))
        };
        let parts: Vec<String> = [
            of(self.garbled, "line that is no record", "lines that are no records"),
            of(self.orphans, "record whose head is missing", "records whose head is missing"),
            of(self.unfinished, "last line that is cut", "last lines that are cut"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let mended =
            of(self.mended, "record in the middle of a line", "records in the middle of lines");
        let damaged = of(self.damaged, "damaged record", "damaged records");
        let read: Vec<String> = [mended, damaged].into_iter().flatten().collect();
        let mut words = Vec::new();
        if !parts.is_empty() {
            words.push(format!("Passed over: {}.", parts.join(", ")));
        }
        if !read.is_empty() {
            words.push(format!("Read all the same: {}.", read.join(", ")));
        }
        (!words.is_empty()).then(|| words.join(" "))
    }
}

impl Report {
    /// A domain in words: its number, and its name if it has one.
    pub(super) fn domain_name(&self, id: u16) -> String {
        match self.domains.iter().find(|domain| domain.id == id) {
            Some(domain) if !domain.name.is_empty() => format!("d{id} {}", domain.name),
            _ => format!("d{id}"),
        }
    }
}
