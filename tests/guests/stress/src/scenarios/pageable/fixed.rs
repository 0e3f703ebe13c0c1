//! The fixed form: the same through the shim, under every policy. All vCPUs share the pager and its
//! store. Each has objects of its own, which it reads and writes while others page out, map and
//! pin.

use super::super::fixture::Fixture;
use super::super::tables;
use super::{region, words_of};
use crate::failure::Failed;
use crate::failure::Failure;
use crate::policies::KINDS;
use crate::words;
use alloc::vec::Vec;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::entry::lock::Mutex;
use pinfold_guest::entry::time;
use pinfold_guest::fixtures::Random;
use pinfold_guest::pageable::{InMemory, ObjectId, Pager};
use pinfold_guest::println;

/// Pages that have a frame at the same time.
const RESIDENT: usize = 40;
/// Pages that the store has room for: more than all objects have.
const ROOM: usize = 500;
/// Objects of each vCPU.
const OBJECTS: usize = 12;
/// Largest size of an object in pages.
const PAGES: u64 = 8;

/// An object, and the last word written to each of its pages.
struct Object {
    id: ObjectId,
    stamps: Vec<u64>,
}

struct Memory<'a> {
    fixture: &'a Fixture<'a>,
    pager: Mutex<Pager<InMemory>>,
    /// The objects of each vCPU.
    objects: Vec<Mutex<Vec<Object>>>,
}

pub(in super::super) fn run(fixture: &Fixture<'_>) -> Result<(), Failed> {
    let pager = Pager::new(InMemory::new(ROOM), RESIDENT, region(fixture)?);
    let objects = (0..fixture.count()).map(|_| Mutex::new(Vec::new())).collect();
    let memory = Memory { fixture, pager: Mutex::new(pager), objects };
    let share = fixture.rounds().div_ceil(KINDS.len() as u64);
    for (policy, pool) in KINDS {
        fixture.set_policy(policy)?;
        fixture.mmu().set_table_pool(pool);
        let (before, began) = (fixture.mmu().stats(), time::tsc());
        let paged = memory.pager.lock().stats();
        fixture.all(share, |cpu, _, random| memory.round(cpu, random))?;
        let (done, ticks) = (fixture.mmu().stats() - before, time::tsc() - began);
        let now = memory.pager.lock().stats();
        println!(
            "COST scenario=5 policy={policy} pool={pool} rounds={share} paged_out={} paged_in={} dropped={} pins={} pins_after_clear={} areas={} cleared={} flushes={} ticks={ticks}",
            now.paged_out - paged.paged_out,
            now.paged_in - paged.paged_in,
            now.dropped - paged.dropped,
            done.pins,
            done.pins_after_clear,
            done.areas,
            done.cleared,
            done.flushes,
        );
    }
    fixture.once(|| memory.end())
}

impl Memory<'_> {
    fn round(&self, cpu: usize, random: &mut Random) -> Result<(), Failure> {
        let mut objects = self.objects[cpu].lock();
        if objects.len() < OBJECTS {
            let pages = 1 + random.below(PAGES);
            let id = self.pager.lock().create(pages)?;
            objects.push(Object { id, stamps: alloc::vec![0; pages as usize] });
        }
        let which = random.index(objects.len());
        self.use_object(&mut objects[which], random)?;
        match random.below(12) {
            0 => {
                let object = objects.swap_remove(which);
                let mut mmu = self.fixture.mmu();
                self.pager.lock().free(&mut mmu, object.id)?;
            }
            1 | 2 => {
                let mut mmu = self.fixture.mmu();
                self.pager.lock().shrink(&mut mmu, 1 + random.index(8))?;
            }
            _ => {}
        }
        tables::build_and_free(&mut self.fixture.mmu(), random)
    }

    /// Pages in a part of an object, checks and writes it without the lock, and unpins it.
    fn use_object(&self, object: &mut Object, random: &mut Random) -> Result<(), Failure> {
        let pages = object.stamps.len() as u64;
        let start = random.below(pages);
        let range = start..start + 1 + random.below(pages - start);
        let view = {
            let mut mmu = self.fixture.mmu();
            let mut pager = self.pager.lock();
            pager.pin(&mut mmu, object.id, range.clone())?;
            pager.map(&mut mmu, object.id, range.clone())?
        };
        let dirty = random.below(3) > 0;
        for (place, number) in (0..).zip(range.clone()) {
            let stamp = &mut object.stamps[number as usize];
            let words: [Vaddr; 3] = words_of(view.start().page(place), number);
            for va in words {
                words::check(va, *stamp)?;
            }
            if dirty {
                *stamp = random.next_u64();
                words.into_iter().for_each(|va| words::store(va, *stamp));
            }
        }
        let mut mmu = self.fixture.mmu();
        let mut pager = self.pager.lock();
        if dirty {
            pager.mark_dirty(object.id, range.clone())?;
        }
        pager.unmap(&mut mmu, view)?;
        Ok(pager.unpin(object.id, range)?)
    }

    /// Checks all objects once more, and frees them.
    fn end(self) -> Result<(), Failure> {
        let mut mmu = self.fixture.mmu();
        let mut pager = self.pager.into_inner();
        for object in self.objects.into_iter().flat_map(Mutex::into_inner) {
            for (number, stamp) in (0..).zip(object.stamps) {
                pager.pin(&mut mmu, object.id, number..number + 1)?;
                let frame = pager.page(object.id, number)?;
                if mmu.read(frame, 511) != stamp {
                    return Err(Failure::Corrupt(frame));
                }
                pager.unpin(object.id, number..number + 1)?;
            }
            pager.free(&mut mmu, object.id)?;
        }
        if pager.resident() != 0 || !pager.store().is_empty() {
            return Err(Failure::Other("the store is not empty"));
        }
        Ok(())
    }
}
