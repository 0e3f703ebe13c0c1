//! A refusal as fields of a log line.

use super::cause::Cause;
use super::record::{EntryLocation, Refusal};
use core::fmt;

impl Refusal {
    /// For the log: `op=.. frame=.. cause=..`, one space between fields, none in them.
    pub const fn fields(&self) -> Fields<'_> {
        Fields(self)
    }
}

/// A refusal as `key=value` fields; see [`Refusal::fields`].
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a>(&'a Refusal);

impl fmt::Display for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let refusal = self.0;
        let (op, cause) = (refusal.operation.name(), refusal.cause.name());
        write!(f, "op={op} dom={} frame={} cause={cause}", refusal.dom, refusal.frame)?;
        match refusal.cause {
            Cause::ReservedBits(bits) => write!(f, " bits={bits:#x}")?,
            Cause::ForbiddenFlags(flags) => write!(f, " bits={:#x}", flags.bits())?,
            Cause::BadDescriptor(value) => write!(f, " descriptor={value:#018x}")?,
            Cause::BadAddress(address) => write!(f, " va={address:#x}")?,
            Cause::BadSlot(slot) => write!(f, " slot={slot}")?,
            _ => {}
        }
        if let Cause::CacheAlias { wanted, present } = refusal.cause {
            write!(f, " wanted={} present={present}", wanted.name())?;
        } else if let Some(wanted) = refusal.wanted {
            write!(f, " wanted={}", wanted.name())?;
        }
        if let Some(seen) = refusal.seen {
            match seen.owner() {
                Some(owner) => write!(f, " owner={owner}")?,
                None => f.write_str(" owner=none")?,
            }
            write!(f, " seen={} state={}", seen.kind().name(), seen.state().name())?;
            write!(f, " count={} refs={}", seen.type_count(), seen.references())?;
            write!(f, " pinned={}", u8::from(seen.is_pinned()))?;
        }
        if let Some(EntryLocation { level, table, index, entry }) = refusal.location {
            let level = level.map_or(0, |level| level as u8);
            write!(f, " level={level} table={table} index={index} entry={entry}")?;
        }
        Ok(())
    }
}
