//! What a pin must answer, worked out from the tables by a recursion that knows nothing of words,
//! states and budgets.

use super::*;
use crate::entry::target;
use crate::entry::{EntryRules, PRESENT, WRITABLE};
use crate::memtype::memtype_of;
use pinfold_abi::mmu::MemoryType;
use std::collections::BTreeMap;

/// The types that frames would have.
struct Trial<'w> {
    world: &'w World,
    rules: EntryRules,
    setup: Setup,
    dom: DomId,
    types: BTreeMap<u64, Kind>,
    /// What frames are mapped as, or used as by the hypervisor.
    cached: BTreeMap<u64, MemoryType>,
}

/// Whether an unhurried pin of the frame would be accepted.
pub(super) fn would_pin(world: &World, setup: Setup, dom: DomId, level: Level, frame: Mfn) -> bool {
    if world.info(frame).is_some_and(|info| info.is_pinned()) {
        return false;
    }
    let rules = EntryRules::new(setup.physical_bits, setup.nx);
    Trial { world, rules, setup, dom, types: BTreeMap::new(), cached: BTreeMap::new() }
        .take(frame, Kind::table(level))
}

impl Trial<'_> {
    /// Whether the frame can be taken as this type, after what was taken before.
    fn take(&mut self, frame: Mfn, kind: Kind) -> bool {
        let Some(info) = self.world.info(frame) else { return false };
        if info.owner() != Some(self.dom) || info.is_shared() && kind != Kind::Writable {
            return false;
        }
        if !self.cached(frame, MemoryType::WriteBack) {
            return false;
        }
        // A half-made type that nobody holds is no type.
        let held = (info.state() == State::Validated).then(|| info.kind());
        if let Some(held) = self.types.get(&frame.get()).copied().or(held) {
            return held == kind;
        }
        self.types.insert(frame.get(), kind);
        match kind.level() {
            Some(level) => (0..512).all(|index| self.entry(frame, level, index)),
            None => true,
        }
    }

    /// Whether the frame can be used in one way of caching, after what it was used as before: any,
    /// if it isn't used.
    fn cached(&mut self, frame: Mfn, wanted: MemoryType) -> bool {
        let Some(info) = self.world.info(frame) else { return false };
        // A half-made type still holds it.
        let unused = info.references() == 1;
        let before = match info.memtype() {
            FrameMemType::Uniform(kind) if !unused => Some(kind),
            FrameMemType::Mixed | FrameMemType::Changing if !unused => return false,
            _ => None,
        };
        let before = *self.cached.entry(frame.get()).or_insert(before.unwrap_or(wanted));
        before == wanted
    }

    /// Whether the frame can be mapped writable.
    fn write(&mut self, frame: Mfn) -> bool {
        let held = self
            .world
            .info(frame)
            .and_then(|info| (info.state() == State::Validated).then(|| info.kind()));
        let held = self.types.get(&frame.get()).copied().or(held);
        self.types.entry(frame.get()).or_insert(Kind::Writable);
        held.is_none_or(|held| held == Kind::Writable)
    }

    fn entry(&mut self, table: Mfn, level: Level, index: usize) -> bool {
        if level == Level::L4 && slot(index).is_reserved() {
            return true;
        }
        let raw = self.world.platform().get(table, index);
        let frame = target(raw);
        let own = self.world.owner(frame) == Some(self.dom);
        if raw & PRESENT == 0 {
            let cut = frame.get() & ((1 << (self.setup.physical_bits - 12)) - 1);
            let memory = self.world.frame_count() + machine::FIRMWARE_FRAMES;
            return !self.setup.l1tf || cut == 0 || cut >= memory;
        }
        if raw & self.rules.forbidden(level) != 0 || !own {
            return false;
        }
        match level.below() {
            // Refused by the type first, or by the caching: refused all the same.
            None => {
                self.cached(frame, memtype_of(raw)) && (raw & WRITABLE == 0 || self.write(frame))
            }
            Some(_) if frame == table => {
                raw & WRITABLE == 0 && !(self.setup.refuse_linear_roots && level == Level::L4)
            }
            Some(below) => self.take(frame, Kind::table(below)),
        }
    }
}
