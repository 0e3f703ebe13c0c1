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
    /// Batches of mappings cleared, by whatever call.
    pub shootdowns: u64,
    /// TLB flushes that the shim asked for or caused.
    pub flushes: u64,
    /// Dead mappings cleared.
    pub cleared: u64,
    /// Pins that found a lazy mapping of their own frames and had it cleared.
    pub rescued: u64,
    /// vmap areas made.
    pub areas: u64,
    /// kmap and atomic mappings made (not found in the cache).
    pub kmaps: u64,
}

impl core::ops::Sub for Stats {
    type Output = Stats;

    fn sub(self, before: Stats) -> Stats {
        Stats {
            pins: self.pins - before.pins,
            tables: self.tables - before.tables,
            refused: self.refused - before.refused,
            unpins: self.unpins - before.unpins,
            shootdowns: self.shootdowns - before.shootdowns,
            flushes: self.flushes - before.flushes,
            cleared: self.cleared - before.cleared,
            rescued: self.rescued - before.rescued,
            areas: self.areas - before.areas,
            kmaps: self.kmaps - before.kmaps,
        }
    }
}

impl core::fmt::Display for Stats {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Stats { pins, tables, refused, unpins, shootdowns, flushes, cleared, .. } = self;
        write!(f, "pins={pins} tables={tables} refused={refused} unpins={unpins} ")?;
        write!(f, "shootdowns={shootdowns} flushes={flushes} cleared={cleared} ")?;
        write!(f, "rescued={} areas={} kmaps={}", self.rescued, self.areas, self.kmaps)
    }
}
