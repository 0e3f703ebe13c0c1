//! The least recently used block.

use alloc::collections::BTreeMap;

/// Blocks in the order in which they were pushed.
#[derive(Debug, Default)]
pub(super) struct LruOrder {
    next: u64,
    by_turn: BTreeMap<u64, u64>,
    turns: BTreeMap<u64, u64>,
}

impl LruOrder {
    /// Adds a block at the end. It must not be in the order already.
    pub(super) fn push(&mut self, block: u64) {
        self.by_turn.insert(self.next, block);
        self.turns.insert(block, self.next);
        self.next += 1;
    }

    pub(super) fn remove(&mut self, block: u64) {
        if let Some(turn) = self.turns.remove(&block) {
            self.by_turn.remove(&turn);
        }
    }

    /// The block that was pushed longest ago.
    pub(super) fn first(&self) -> Option<u64> {
        self.by_turn.first_key_value().map(|(_, &block)| block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_the_one_pushed_longest_ago() {
        let mut order = LruOrder::default();
        for block in [7, 3, 9] {
            order.push(block);
        }
        order.remove(7);
        assert_eq!(order.first(), Some(3));
        order.remove(3);
        order.push(3);
        order.remove(8);
        assert_eq!(order.first(), Some(9));
        order.remove(9);
        order.remove(3);
        assert_eq!(order.first(), None);
    }
}
