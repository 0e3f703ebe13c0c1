//! A refusal in plain words.

use super::cause::Cause;
use super::record::{EntryLocation, Refusal};
use crate::frame_table::{Kind, State};
use crate::memtype::FrameMemType;
use core::fmt;
use pinfold_abi::mmu::MemoryType;

/// In plain words, one sentence.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = self.frame;
        write!(f, "{}: ", self.operation.name())?;
        match self.cause {
            Cause::NoSuchFrame => write!(f, "frame {frame} is beyond all RAM")?,
            Cause::NotOwned => match self.seen.and_then(|seen| seen.owner()) {
                Some(owner) => write!(f, "frame {frame} belongs to domain {owner}")?,
                None => write!(f, "frame {frame} belongs to no guest")?,
            },
            Cause::NotFree => write!(f, "frame {frame} is not free")?,
            Cause::SharedFrame => write!(
                f,
                "frame {frame} is shared by the hypervisor and can't be {}",
                self.wanted.unwrap_or(Kind::None)
            )?,
            Cause::WrongType | Cause::TableInUse | Cause::WritableAlias => self.type_conflict(f)?,
            Cause::CacheAlias { wanted, present } => self.memtype_conflict(f, wanted, present)?,
            Cause::ReservedSlot => f.write_str("the slot belongs to the hypervisor")?,
            Cause::ReservedBits(bits) => {
                write!(f, "address bits {bits:#x} are beyond what this processor has")?;
            }
            Cause::ForbiddenFlags(flags) => {
                write!(f, "flags {:#x} may not be set at this level (", flags.bits())?;
                bitflags::parser::to_writer(&flags, &mut *f)?;
                f.write_str(")")?;
            }
            Cause::SuperPage => f.write_str("large pages are not allowed")?,
            Cause::LinearNotAllowed => write!(
                f,
                "frame {frame} is a table of the same level; only a read-only entry to the table \
                 itself is allowed"
            )?,
            Cause::AbsentNamesMemory => write!(
                f,
                "the entry is not present but names frame {frame}, which is memory: this processor \
                 could read it through the entry (L1TF); kernels that know invert the address"
            )?,
            Cause::AlreadyPinned => write!(f, "frame {frame} is pinned already")?,
            Cause::NotPinned => write!(f, "frame {frame} is not pinned")?,
            Cause::CountOverflow => write!(f, "frame {frame} has all the references it can")?,
            Cause::Busy => write!(
                f,
                "frame {frame} is still in use: {} references besides its allocation",
                self.seen.map_or(0, |seen| seen.references().saturating_sub(1))
            )?,
            Cause::BadDescriptor(value) => {
                write!(f, "descriptor {value:#018x} is of a kind that no guest may have")?;
            }
            Cause::ForeignMapping => {
                f.write_str("a table of one domain can't map the memory of another")?;
            }
            Cause::NotATable => write!(f, "frame {frame} is no page table of this kind")?,
            Cause::BadAddress(address) => {
                write!(f, "address {address:#x} is outside the guest's address space")?;
            }
            Cause::BadSlot(slot) => write!(f, "there is no slot {slot}")?,
        }
        if let Some(EntryLocation { level, table, index, entry }) = self.location {
            match level {
                Some(level) => write!(f, ", wanted by entry {index} of {level} table {table}")?,
                None => write!(f, ", wanted by entry {index} of frame {table}")?,
            }
            write!(f, " ({entry})")?;
        }
        Ok(())
    }
}

impl Refusal {
    fn memtype_conflict(
        &self,
        f: &mut fmt::Formatter<'_>,
        wanted: MemoryType,
        present: FrameMemType,
    ) -> fmt::Result {
        let (frame, wanted) = (self.frame, wanted.name());
        let held = self.seen.and_then(|seen| seen.held_as());
        // The words must also be true where the conflict is only reported.
        write!(f, "frame {frame} is wanted ")?;
        match self.wanted {
            Some(kind) if kind != Kind::Writable => write!(f, "as {kind}, which is {wanted}, ")?,
            _ if self.is_for_l1_entry() => write!(f, "as {wanted} memory ")?,
            _ => write!(f, "by the hypervisor, as {wanted} memory, ")?,
        }
        match (held.filter(|held| *held != Kind::Writable), present) {
            (Some(kind), _) => write!(f, "while it is {kind}, which is {present}"),
            (None, FrameMemType::Mixed) => f.write_str("while it is mapped in several ways"),
            (None, _) => write!(f, "while it is mapped as {present}"),
        }
    }

    fn type_conflict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = self.frame;
        let wanted = self.wanted.unwrap_or(Kind::None);
        let Some(seen) = self.seen else {
            return write!(f, "frame {frame} can't be {wanted}");
        };
        if self.cause == Cause::WritableAlias {
            let plural = if seen.type_count() == 1 { "" } else { "s" };
            return write!(
                f,
                "frame {frame} can't be {wanted} while it has {} writable mapping{plural}",
                seen.type_count()
            );
        }
        write!(f, "frame {frame} can't be {wanted} while it is {}", seen.kind())?;
        match seen.state() {
            State::Validated => {
                let pinned = if seen.is_pinned() { ", pinned" } else { "" };
                write!(f, " ({} references{pinned})", seen.type_count())
            }
            state => write!(f, " ({})", state.name()),
        }
    }
}
