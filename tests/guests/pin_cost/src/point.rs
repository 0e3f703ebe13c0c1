//! The measurement of one point of a curve.

use crate::kinds::Kind;
use alloc::vec::Vec;
use pinfold_guest::addr::{Pfn, Vaddr};
use pinfold_guest::entry::{Native, alias, time::tsc};
use pinfold_guest::mmu::{AddressSpace, Error, Leaf, Mmu, UnpinnedTables};
use pinfold_guest::println;

/// Frames with outstanding mappings: several each, if there are many.
const OTHERS: usize = 8192;
/// Pages of each area that is unmapped.
const AREA: usize = 8;
/// Tables of an address space.
const TABLES: usize = 4;
/// Pins of a point: enough to use up the table pool once.
const PINS: u64 = 16;
/// Mappings that are made for one point at most: fewer pins, if each needs all of them again.
const MADE: u64 = 400_000;
/// The address that the address spaces map.
const VA: Vaddr = Vaddr(0x0000_1234_5678_9000);

/// The state of all points.
pub(crate) struct Measurement<'a> {
    mmu: &'a mut Mmu<Native>,
    others: Vec<Pfn>,
    /// The index of the frame that is mapped next.
    next: usize,
    page: Pfn,
    /// The cost of building an address space when its frames come from a list.
    build: u64,
}

/// Instructions and mappings of one point so far.
#[derive(Clone, Copy, Default)]
struct Sum {
    pins: u64,
    pinning: u64,
    /// Mappings that were unmapped, and what that cost.
    unmapped: u64,
    unmapping: u64,
    flushes: u64,
    cleared: u64,
    refused: u64,
    vunmap_flushes: u64,
    dead: u64,
}

fn timed<T>(run: impl FnOnce() -> Result<T, Error>) -> Result<(T, u64), Error> {
    let begin = tsc();
    let done = run()?;
    Ok((done, tsc() - begin))
}

impl<'a> Measurement<'a> {
    pub(crate) fn new(mmu: &'a mut Mmu<Native>) -> Result<Measurement<'a>, Error> {
        let others = (0..OTHERS).map(|_| mmu.alloc_frame()).collect::<Result<_, _>>()?;
        let page = mmu.alloc_frame()?;
        mmu.set_lazy_limit(u64::MAX);
        let mut measurement = Measurement { mmu, others, next: 0, page, build: 0 };
        // The least of several: the first ones include growing the heap.
        measurement.build = u64::MAX;
        for _ in 0..PINS {
            let (tree, cost) = timed(|| measurement.build())?;
            measurement.build = measurement.build.min(cost);
            measurement.mmu.free_tables(tree);
        }
        Ok(measurement)
    }

    /// Measures one point, and prints it.
    pub(crate) fn measure(
        &mut self,
        kind: Kind,
        outstanding: u64,
        with_aliases: bool,
    ) -> Result<(), Error> {
        self.mmu.set_policy(kind.policy)?;
        self.mmu.set_table_pool(kind.pool);
        let done = if kind.upcall { alias::enable(alias::clear) } else { alias::disable() };
        done.map_err(Error::Refused)?;
        // The first use of a policy may allocate: leave that out.
        self.unmap_others(1, &mut Sum::default())?;
        self.mmu.purge_vmap()?;
        let mut spaces = Vec::new();
        // The first round leaves an empty pool and frames with dead mappings; each table of the
        // second round is a new one, too.
        let first = self.round(kind, outstanding, with_aliases, &mut spaces)?;
        let mut sum = self.round(kind, outstanding, with_aliases, &mut spaces)?;
        // Unmapping costs the same in both; under some policies only the first round needs it.
        sum.unmapped += first.unmapped;
        sum.unmapping += first.unmapping;
        sum.vunmap_flushes += first.vunmap_flushes;
        let measured = spaces.len() - sum.pins as usize;
        for (number, space) in spaces.into_iter().enumerate() {
            let (tree, cost) = timed(|| self.mmu.unpin(space).map_err(|(_, error)| error))?;
            if number >= measured {
                sum.pinning += cost;
            }
            self.mmu.free_tables(tree);
        }
        self.mmu.purge_vmap()?;
        let aliases = if with_aliases { TABLES } else { 0 };
        let Sum { pins, dead, flushes, cleared, refused, vunmap_flushes, .. } = sum;
        println!(
            "CURVE policy={kind} aliases={aliases} outstanding={outstanding} dead={} pins={pins} \
             instructions_per_pin={} instructions_per_vunmap={} flushes={flushes} \
             cleared={cleared} refused={refused} vunmap_flushes={vunmap_flushes}",
            dead / pins,
            sum.pinning / pins,
            sum.unmapping / sum.unmapped.max(1),
        );
        Ok(())
    }

    fn round(
        &mut self,
        kind: Kind,
        outstanding: u64,
        with_aliases: bool,
        spaces: &mut Vec<AddressSpace>,
    ) -> Result<Sum, Error> {
        let mut sum = Sum::default();
        while sum.pins < PINS && (sum.pins < 2 || sum.unmapped < MADE) {
            let before = self.mmu.stats();
            self.unmap_others(outstanding, &mut sum)?;
            if with_aliases {
                self.leave_aliases(&mut sum)?;
            }
            sum.vunmap_flushes += (self.mmu.stats() - before).flushes;
            sum.dead += self.mmu.lazy_mappings();
            let before = self.mmu.stats();
            let (tree, cost) = timed(|| self.build())?;
            sum.pinning += cost.saturating_sub(self.build);
            let (space, cost) = timed(|| self.pin(kind, tree))?;
            sum.pinning += cost;
            spaces.push(space);
            let done = self.mmu.stats() - before;
            sum.flushes += done.flushes;
            sum.cleared += done.cleared + done.cleared_by_upcall;
            sum.refused += done.refused;
            sum.pins += 1;
        }
        Ok(sum)
    }

    /// Maps and unmaps, until so many mappings are outstanding, or would be under a policy that leaves
    /// them.
    fn unmap_others(&mut self, outstanding: u64, sum: &mut Sum) -> Result<(), Error> {
        let mut missing = outstanding.saturating_sub(self.mmu.lazy_mappings());
        while missing > 0 {
            let pages = missing.min(AREA as u64) as usize;
            if self.next + pages > self.others.len() {
                self.next = 0;
            }
            let area = self.mmu.vmap(&self.others[self.next..self.next + pages])?;
            self.next += pages;
            let ((), cost) = timed(|| self.mmu.vunmap(area))?;
            sum.unmapping += cost;
            sum.unmapped += pages as u64;
            missing -= pages as u64;
        }
        Ok(())
    }

    /// Frees as many frames as an address space has tables, each with a dead mapping: they are
    /// allocated next.
    fn leave_aliases(&mut self, sum: &mut Sum) -> Result<(), Error> {
        let frames: Vec<Pfn> =
            (0..TABLES).map(|_| self.mmu.alloc_frame()).collect::<Result<_, _>>()?;
        for &frame in &frames {
            let area = self.mmu.vmap(&[frame])?;
            let ((), cost) = timed(|| self.mmu.vunmap(area))?;
            sum.unmapping += cost;
            sum.unmapped += 1;
        }
        for frame in frames {
            self.mmu.free_frame(frame);
        }
        Ok(())
    }

    fn build(&mut self) -> Result<UnpinnedTables, Error> {
        let mut tree = self.mmu.alloc_tables(4)?;
        self.mmu.map_in(&mut tree, VA, Leaf::kernel(self.page))?;
        Ok(tree)
    }

    fn pin(&mut self, kind: Kind, tree: UnpinnedTables) -> Result<AddressSpace, Error> {
        let pinned = match kind.upcall {
            true => self.mmu.pin_without_before_pin(tree),
            false => self.mmu.pin(tree),
        };
        pinned.map_err(|(_, error)| error)
    }
}
