//! The broken form: nobody takes a reference of the pages that the device writes to. They are freed
//! with their object, and the last one becomes a page table while the device can still write to it.

use super::super::fixture::Fixture;
use super::super::tables::healed;
use super::super::{SeededAliases, Tally};
use super::{devices, mapped, pages, unmapped};
use crate::violation::{Wrong, named, refuse};
use crate::{Failed, words};
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
        one(fixture, device, round, random, &seeded)
    })?;
    Ok(seeded.tally())
}

fn one(
    fixture: &Fixture<'_>,
    device: Device,
    round: u64,
    random: &mut Random,
    seeded: &SeededAliases,
) -> Result<(), Wrong> {
    let mut owner = fixture.mmu();
    owner.purge_vmap()?;
    let (space, mut object) = mapped(&mut owner, pages(random))?;
    // The last pages of it.
    let count = 1 + random.below(object.frames().len().min(4) as u64);
    let frames: Vec<Pfn> = object.frames()[object.frames().len() - count as usize..].to_vec();
    let io = device.begin_without_references(&mut owner, &frames)?;
    let last = io.start().page(count - 1);
    unmapped(&mut owner, space, &mut object)?;
    fixture.mark(round, io.holder());
    object.free(&mut owner);
    let mmu = &mut *owner;
    let tree = seeded.table(mmu.alloc_tables(1)?, frames.last().copied())?;
    let frame = tree.frames()[0];
    // The device is not through.
    words::store(last, random.next_u64() << 1);
    mmu.write(frame, 0, 0);
    let tree = refuse(mmu, tree, Mmu::pin_without_before_pin)?;
    seeded.refused(named(mmu, frame, &[last])?);
    // The shim would have known: the mapping is in use.
    let tree = match mmu.pin(tree) {
        Err((tree, Error::InUse(va))) if va == last => tree,
        Err((_, error)) => return Err(Wrong::Otherwise(error)),
        Ok(_) => return Err(Wrong::Accepted),
    };
    device.end(mmu, io)?;
    healed(&mut owner, tree)
}
