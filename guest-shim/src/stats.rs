//! Counters, to compare policies with.

/// What the shim has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Pins of page tables.
    pub pins: u64,
    /// Tables in them.
    pub tables: u64,
    /// Pins that the hypervisor refused.
    pub refused: u64,
    /// Unpins of page tables.
    pub unpins: u64,
    /// Pins that found a lazy mapping of one of their frames and cleared it first.
    pub pins_after_clear: u64,
    /// Pins whose frames were all clean: no frame was examined.
    pub clean_pins: u64,
    /// Fillings of the table pool.
    pub refills: u64,
    /// Tables allocated from it.
    pub pooled: u64,
    /// Dead mappings that the alias upcall cleared in the middle of a pin, because the index did
    /// not have them.
    pub cleared_by_upcall: u64,
    /// Areas made.
    pub areas: u64,
    /// Calls that cleared dead mappings of areas.
    pub shootdowns: u64,
    /// TLB flushes for them.
    pub flushes: u64,
    /// Dead mappings of areas cleared.
    pub cleared: u64,
    /// kmap and atomic mappings made (not found in the cache).
    pub kmaps: u64,
    /// kmap slots cleared, each with a flush of its address.
    pub kmaps_cleared: u64,
    /// Frames whose memory type was changed.
    pub retyped: u64,
    /// Changes of memory types that found a lazy mapping and cleared it first.
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
        write!(f, "pins={pins} tables={tables} refused={refused} unpins={unpins} ")?;
        let Stats { areas, shootdowns, flushes, cleared, .. } = self;
        write!(f, "pins_after_clear={pins_after_clear} areas={areas} shootdowns={shootdowns} ")?;
        let Stats { kmaps, kmaps_cleared, clean_pins, refills, .. } = self;
        write!(f, "flushes={flushes} cleared={cleared} kmaps={kmaps} ")?;
        let Stats { pooled, cleared_by_upcall, retyped, retypes_after_clear, .. } = self;
        write!(f, "kmaps_cleared={kmaps_cleared} clean_pins={clean_pins} refills={refills} ")?;
        write!(f, "pooled={pooled} cleared_by_upcall={cleared_by_upcall} retyped={retyped} ")?;
        write!(f, "retypes_after_clear={retypes_after_clear}")
    }
}
