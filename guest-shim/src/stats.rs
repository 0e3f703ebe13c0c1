//! Figures, to compare policies with.

/// What the shim did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Trees pinned.
    pub pins: u64,
    /// Tables in them.
    pub tables: u64,
    /// Pins that the hypervisor refused.
    pub refused: u64,
    /// Trees unpinned.
    pub unpins: u64,
    /// Pins that found a lazy mapping in their way, and had it cleared.
    pub pins_after_clear: u64,
    /// Pins of which no frame had to be looked at: all were from the table pool.
    pub clean_pins: u64,
    /// Fillings of the table pool.
    pub refills: u64,
    /// Tables taken from it.
    pub pooled: u64,
    /// Dead mappings that were cleared in the middle of a pin, because nobody had thought of them.
    pub cleared_by_upcall: u64,
    /// Areas made.
    pub areas: u64,
    /// Batches of dead area mappings cleared, by whatever call.
    pub shootdowns: u64,
    /// TLB flushes for them.
    pub flushes: u64,
    /// Dead area mappings cleared.
    pub cleared: u64,
    /// kmap and atomic mappings made (not found in the cache).
    pub kmaps: u64,
    /// kmap slots cleared, each with a flush of its address.
    pub kmaps_cleared: u64,
    /// Frames that got another memory type.
    pub retyped: u64,
    /// Changes of memory types that found a lazy mapping in their way, and had it cleared.
    pub retypes_after_clear: u64,
}

impl core::ops::Sub for Stats {
    type Output = Stats;

    fn sub(self, before: Stats) -> Stats {
        Stats {
            pins: self.pins - before.pins,
            tables: self.tables - before.tables,
            refused: self.refused - before.refused,
            unpins: self.unpins - before.unpins,
            pins_after_clear: self.pins_after_clear - before.pins_after_clear,
            clean_pins: self.clean_pins - before.clean_pins,
            refills: self.refills - before.refills,
            pooled: self.pooled - before.pooled,
            cleared_by_upcall: self.cleared_by_upcall - before.cleared_by_upcall,
            areas: self.areas - before.areas,
            shootdowns: self.shootdowns - before.shootdowns,
            flushes: self.flushes - before.flushes,
            cleared: self.cleared - before.cleared,
            kmaps: self.kmaps - before.kmaps,
            kmaps_cleared: self.kmaps_cleared - before.kmaps_cleared,
            retyped: self.retyped - before.retyped,
            retypes_after_clear: self.retypes_after_clear - before.retypes_after_clear,
        }
    }
}

impl core::fmt::Display for Stats {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Stats { pins, tables, refused, unpins, pins_after_clear, .. } = self;
        write!(
            f,
            "pins={pins} tables={tables} refused={refused} unpins={unpins} pins_after_clear={pins_after_clear} "
        )?;
        let Stats { areas, shootdowns, flushes, cleared, .. } = self;
        write!(f, "areas={areas} shootdowns={shootdowns} flushes={flushes} cleared={cleared} ")?;
        write!(f, "kmaps={} kmaps_cleared={} ", self.kmaps, self.kmaps_cleared)?;
        let Stats { clean_pins, refills, pooled, cleared_by_upcall, .. } = self;
        write!(
            f,
            "clean_pins={clean_pins} refills={refills} pooled={pooled} cleared_by_upcall={cleared_by_upcall} "
        )?;
        write!(f, "retyped={} retypes_after_clear={}", self.retyped, self.retypes_after_clear)
    }
}
