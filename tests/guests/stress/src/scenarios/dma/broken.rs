//! The broken form: nobody takes a reference to the pages that a device writes to. They are freed
//! with their object, and the last one becomes a page table while the device can still write to it.

use super::super::fixture::Fixture;
use super::super::tables::pin_and_free;
use super::super::{SeededAliases, Tally};
use super::{devices, map_object, pages, unmap_object};
use crate::failure::Failed;
use crate::failure::{Failure, check_named, expect_refusal};
use crate::words;
use alloc::vec::Vec;
use pinfold_guest::addr::Pfn;
use pinfold_guest::dma::Device;
use pinfold_guest::fixtures::Random;
use pinfold_guest::mmu::{Error, Mmu};
use pinfold_guest::vmap::Policy;

pub(in super::super) fn run(fixture: &Fixture<'_>) -> Result<Tally, Failed> {
    let seeded = SeededAliases::default();
    fixture.set_policy(Policy::Lazy)?;
    let devices = devices(fixture)?;
    fixture.all(fixture.rounds(), |_, round, random| {
        let device = devices[random.index(2)];
        run_round(fixture, device, round, random, &seeded)
    })?;
    Ok(seeded.tally())
}

fn run_round(
    fixture: &Fixture<'_>,
    device: Device,
    round: u64,
    random: &mut Random,
    seeded: &SeededAliases,
) -> Result<(), Failure> {
    let mut owner = fixture.mmu();
    owner.purge_vmap()?;
    let (space, mut object) = map_object(&mut owner, pages(random))?;
    // The object's last pages.
    let count = 1 + random.below(object.frames().len().min(4) as u64);
    let frames: Vec<Pfn> = object.frames()[object.frames().len() - count as usize..].to_vec();
    let io = device.begin_without_references(&mut owner, &frames)?;
    let last = io.start().page(count - 1);
    unmap_object(&mut owner, space, &mut object)?;
    fixture.mark(round, io.holder());
    object.free(&mut owner);
    let mmu = &mut *owner;
    let tree = seeded.table(mmu.alloc_tables(1)?, frames.last().copied())?;
    let frame = tree.frames()[0];
    // The device still writes.
    words::store(last, random.next_u64() << 1);
    mmu.write(frame, 0, 0);
    let tree = expect_refusal(mmu, tree, Mmu::pin_without_before_pin)?;
    seeded.refused(check_named(mmu, frame, &[last])?);
    // The shim would have refused: it knows that the mapping is in use.
    let tree = match mmu.pin(tree) {
        Err((tree, Error::InUse(va))) if va == last => tree,
        Err((_, error)) => return Err(Failure::Otherwise(error)),
        Ok(_) => return Err(Failure::Accepted),
    };
    device.end(mmu, io)?;
    pin_and_free(&mut owner, tree)
}
