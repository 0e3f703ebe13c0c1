//! Any record, by what it says.

use super::*;

/// A record of the hypervisor, read.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "the types say what the records are")]
pub enum Event<'a> {
    Alias(Alias<'a>),
    Cache(Cache<'a>),
    Refused(Refused<'a>),
    Mapping(Mapping<'a>),
    SearchEnd(SearchEnd),
    Healed(Healed<'a>),
    Start(Start<'a>),
    NoStart(NoStart<'a>),
    Shutdown(Shutdown<'a>),
    Crash(Crash<'a>),
    CrashIdle(CrashIdle<'a>),
    DumpFrame(DumpFrame),
    DumpUnreadable(DumpUnreadable),
    MarkText(MarkText<'a>),
    FrameUses(FrameUses<'a>),
    Dropped(Dropped<'a>),
    AuditSummary(AuditSummary),
    Discrepancy(Discrepancy<'a>),
    Teardown(Teardown),
    Leftovers(Leftovers),
    Heap(Heap),
    Canary(Canary),
    IsolationMode(IsolationMode<'a>),
    IsolationCheck(IsolationCheck),
    CpuFlaw(CpuFlaw<'a>),
    Switches(Switches),
    Latency(Latency<'a>),
    InputTo(InputTo<'a>),
    InputDomain(InputDomain<'a>),
    InputKeys(InputKeys<'a>),
    PanicTrap(PanicTrap),
    End(End),
    /// Text that a guest printed.
    Console(&'a str),
    /// A record of another kind, or one whose body is free text.
    Other,
}

impl<'a> Event<'a> {
    /// Reads the body of a record.
    ///
    /// # Errors
    /// A key that is missing or garbled, by its name.
    ///
    /// ```
    /// use pinfold_abi::record::{Event, ParseError, Record};
    /// let read = |line| Event::read(&Record::parse(line).unwrap());
    /// let line = "[   0.400000] hv END guests=1 ok=1 failed=0 crashed=0 aliases=2";
    /// assert!(matches!(read(line), Ok(Event::End(end)) if end.aliases == 2));
    /// let line = "[   0.400000] hv END guests=1 ok=one";
    /// assert_eq!(read(line), Err(ParseError::Garbled("ok")));
    /// ```
    pub fn read(record: &Record<'a>) -> Result<Event<'a>, ParseError> {
        let body = record.body;
        let has = |key| record.field(key).is_some();
        Ok(match record.head.kind {
            kind::ALIAS => Event::Alias(Alias::parse(body)?),
            kind::CACHE => Event::Cache(Cache::parse(body)?),
            kind::REFUSED => Event::Refused(Refused::parse(body)?),
            kind::MAPPING if has("end") => Event::SearchEnd(SearchEnd::parse(body)?),
            kind::MAPPING => Event::Mapping(Mapping::parse(body)?),
            kind::HEALED => Event::Healed(Healed::parse(body)?),
            kind::START => Event::Start(Start::parse(body)?),
            // A manifest that cannot be read names no domain.
            kind::NOSTART if !has("name") => Event::Other,
            kind::NOSTART => Event::NoStart(NoStart::parse(body)?),
            kind::SHUTDOWN => Event::Shutdown(Shutdown::parse(body)?),
            kind::CRASH if has("mode") => Event::Crash(Crash::parse(body)?),
            kind::CRASH => Event::CrashIdle(CrashIdle::parse(body)?),
            kind::DUMP if has("frame") => Event::DumpFrame(DumpFrame::parse(body)?),
            kind::DUMP if has("unreadable") => Event::DumpUnreadable(DumpUnreadable::parse(body)?),
            kind::MARK => Event::MarkText(MarkText::parse(body)?),
            kind::FRAMES => Event::FrameUses(FrameUses::parse(body)?),
            kind::DROPPED => Event::Dropped(Dropped::parse(body)?),
            kind::AUDIT => return Event::audit(record),
            kind::LATENCY => Event::Latency(Latency::parse(body)?),
            kind::INPUT if has("to") => Event::InputTo(InputTo::parse(body)?),
            kind::INPUT if has("domain") => Event::InputDomain(InputDomain::parse(body)?),
            kind::INPUT => Event::InputKeys(InputKeys::parse(body)?),
            kind::INFO => Event::info(record)?,
            // The words of a panic of its code are free.
            kind::PANIC => PanicTrap::parse(body).map_or(Event::Other, Event::PanicTrap),
            kind::END => Event::End(End::parse(body)?),
            kind::CONSOLE => Event::Console(body),
            _ => Event::Other,
        })
    }

    /// Most lines about the hypervisor's progress are free text.
    fn info(record: &Record<'a>) -> Result<Event<'a>, ParseError> {
        let body = record.body;
        let has = |key| record.field(key).is_some();
        Ok(if has("isolation") && has("wanted") {
            Event::IsolationMode(IsolationMode::parse(body)?)
        } else if has("isolation") {
            Event::IsolationCheck(IsolationCheck::parse(body)?)
        } else if has("flaw") {
            Event::CpuFlaw(CpuFlaw::parse(body)?)
        } else if has("domain_switches") {
            Event::Switches(Switches::parse(body)?)
        } else {
            Event::Other
        })
    }

    fn audit(record: &Record<'a>) -> Result<Event<'a>, ParseError> {
        let body = record.body;
        Ok(match body.split_ascii_whitespace().next() {
            Some(Teardown::WORD) => Event::Teardown(Teardown::parse(body)?),
            Some(Leftovers::WORD) => Event::Leftovers(Leftovers::parse(body)?),
            Some(Heap::WORD) => Event::Heap(Heap::parse(body)?),
            Some(Canary::WORD) => Event::Canary(Canary::parse(body)?),
            _ if record.field("frames").is_some() => {
                Event::AuditSummary(AuditSummary::parse(body)?)
            }
            _ => Event::Discrepancy(Discrepancy::parse(body)?),
        })
    }
}

/// The body, as it stands in the log; nothing for [`Event::Other`].
impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Alias(record) => record.fmt(f),
            Event::Cache(record) => record.fmt(f),
            Event::Refused(record) => record.fmt(f),
            Event::Mapping(record) => record.fmt(f),
            Event::SearchEnd(record) => record.fmt(f),
            Event::Healed(record) => record.fmt(f),
            Event::Start(record) => record.fmt(f),
            Event::NoStart(record) => record.fmt(f),
            Event::Shutdown(record) => record.fmt(f),
            Event::Crash(record) => record.fmt(f),
            Event::CrashIdle(record) => record.fmt(f),
            Event::DumpFrame(record) => record.fmt(f),
            Event::DumpUnreadable(record) => record.fmt(f),
            Event::MarkText(record) => record.fmt(f),
            Event::FrameUses(record) => record.fmt(f),
            Event::Dropped(record) => record.fmt(f),
            Event::AuditSummary(record) => record.fmt(f),
            Event::Discrepancy(record) => record.fmt(f),
            Event::Teardown(record) => record.fmt(f),
            Event::Leftovers(record) => record.fmt(f),
            Event::Heap(record) => record.fmt(f),
            Event::Canary(record) => record.fmt(f),
            Event::IsolationMode(record) => record.fmt(f),
            Event::IsolationCheck(record) => record.fmt(f),
            Event::CpuFlaw(record) => record.fmt(f),
            Event::Switches(record) => record.fmt(f),
            Event::Latency(record) => record.fmt(f),
            Event::InputTo(record) => record.fmt(f),
            Event::InputDomain(record) => record.fmt(f),
            Event::InputKeys(record) => record.fmt(f),
            Event::PanicTrap(record) => record.fmt(f),
            Event::End(record) => record.fmt(f),
            Event::Console(text) => f.write_str(text),
            Event::Other => Ok(()),
        }
    }
}
