//! What a pin must answer, worked out from the tables by a recursion that knows nothing of words,
//! states and budgets.

use super::*;
use crate::entry::{PRESENT, Rules, WRITABLE};
use crate::take::target;
use std::collections::BTreeMap;

/// The types that frames would have.
struct Trial<'w> {
    world: &'w World,
    rules: Rules,
    setup: Setup,
    dom: DomId,
    types: BTreeMap<u64, Kind>,
}

/// Whether an unhurried pin of the frame would be accepted.
pub(super) fn would_pin(world: &World, setup: Setup, dom: DomId, level: Level, frame: Mfn) -> bool {
    if world.info(frame).is_some_and(|info| info.is_pinned()) {
        return false;
    }
    let rules = Rules::new(setup.physical_bits, setup.nx);
    Trial { world, rules, setup, dom, types: BTreeMap::new() }.take(frame, Kind::table(level))
}

impl Trial<'_> {
    /// Whether the frame can be taken as this type, after what was taken before.
    fn take(&mut self, frame: Mfn, kind: Kind) -> bool {
        let Some(info) = self.world.info(frame) else { return false };
        if info.owner() != Some(self.dom) || info.is_shared() && kind != Kind::Writable {
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

    fn entry(&mut self, table: Mfn, level: Level, index: usize) -> bool {
        if level == Level::L4 && slot(index).is_reserved() {
            return true;
        }
        let raw = self.world.platform().get(table, index);
        let frame = target(raw);
        let own = self.world.owner(frame) == Some(self.dom);
        if raw & PRESENT == 0 {
            return !self.setup.l1tf || own || frame.get() == 0 || self.world.info(frame).is_none();
        }
        if raw & self.rules.forbidden(level) != 0 || !own {
            return false;
        }
        match level.below() {
            None => raw & WRITABLE == 0 || self.take(frame, Kind::Writable),
            Some(_) if frame == table => {
                raw & WRITABLE == 0 && !(self.setup.refuse_linear_roots && level == Level::L4)
            }
            Some(below) => self.take(frame, Kind::table(below)),
        }
    }
}
