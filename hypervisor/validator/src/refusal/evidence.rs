//! A refusal as the fields of a log record.

use super::cause::Cause;
use super::record::{EntryLocation, Refusal};
use crate::frame_table::FrameInfo;
use crate::ids::DomId;
use pinfold_abi::record::{Bit, Evidence, Hex, Hex16, Location, Maybe, Seen};

impl Refusal {
    /// The evidence, for the log.
    pub fn evidence(&self) -> Evidence<'static> {
        let wanted = self.wanted.map(|kind| kind.name());
        let mut evidence = Evidence {
            op: self.operation.name(),
            dom: self.dom.get(),
            frame: self.frame,
            cause: self.cause.name(),
            bits: None,
            descriptor: None,
            va: None,
            slot: None,
            wanted,
            present: None,
            seen: self.seen.as_ref().map(seen),
            location: self.location.map(location),
        };
        match self.cause {
            Cause::ReservedBits(bits) => evidence.bits = Some(Hex(bits)),
            Cause::ForbiddenFlags(flags) => evidence.bits = Some(Hex(flags.bits())),
            Cause::BadDescriptor(value) => evidence.descriptor = Some(Hex16(value)),
            Cause::BadAddress(address) => evidence.va = Some(Hex(address)),
            Cause::BadSlot(slot) => evidence.slot = Some(slot),
            Cause::CacheAlias { wanted, present } => {
                evidence.wanted = Some(wanted.name());
                evidence.present = Some(present.name());
            }
            _ => {}
        }
        evidence
    }
}

fn seen(frame: &FrameInfo) -> Seen<'static> {
    Seen {
        owner: Maybe(frame.owner().map(DomId::get)),
        kind: frame.kind().name(),
        state: frame.state().name(),
        count: frame.type_count().into(),
        refs: frame.references(),
        pinned: Bit(frame.is_pinned()),
    }
}

fn location(entry: EntryLocation) -> Location {
    let EntryLocation { level, table, index, entry } = entry;
    Location {
        level: level.map_or(0, |level| level as u8),
        table,
        index: index.get() as u16,
        entry: Hex16(entry.get()),
    }
}
