//! Scenario 3: devices that write to pages whose owners have let them go.
//!
//! An object is mapped for user mode in large aligned runs; a device is given some of its pages to
//! write to; and before it is through, the mapping goes, the object goes, and its pages are used
//! again. The device is another vCPU, or the same one later.

mod broken;
mod fixed;

pub(super) use broken::run as broken;
pub(super) use fixed::run as fixed;

use super::Fixture;
use super::fixture::Owner;
use crate::Failed;
use crate::violation::Wrong;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::dma::{Device, Object, RUN_PAGES};
use pinfold_guest::fixtures::Random;
use pinfold_guest::mmu::AddressSpace;
use pinfold_guest::println;

/// Where objects are mapped.
const AT: Vaddr = Vaddr(0x0000_7654_4000_0000);

/// The devices.
fn devices(fixture: &Fixture<'_>) -> Result<[Device; 2], Failed> {
    let mut mmu = fixture.mmu();
    let mut device = |name| {
        Device::new(&mut *mmu, name, 512).map_err(|error| {
            println!("scenario {}: no addresses for {name}: {error}", fixture.scenario());
            Failed
        })
    };
    Ok([device("dma:disk0")?, device("dma:net0")?])
}

/// Pages of an object: few, a whole run, or a bit more.
fn pages(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => RUN_PAGES,
        1 => RUN_PAGES + 1 + random.below(16),
        _ => 1 + random.below(24),
    }
}

/// An address space with an object in it.
fn mapped(mmu: &mut Owner<'_>, pages: u64) -> Result<(AddressSpace, Object), Wrong> {
    let mut tree = mmu.alloc_root()?;
    mmu.alloc_intermediate_tables(&mut tree, AT)?;
    let mut space = mmu.pin(tree).map_err(|(_, error)| error)?;
    let mut object = Object::new(&mut **mmu, pages)?;
    object.map(&mut **mmu, &mut space, AT)?;
    Ok((space, object))
}

/// The mapping goes, and the address space.
fn unmapped(mmu: &mut Owner<'_>, space: AddressSpace, object: &mut Object) -> Result<(), Wrong> {
    let mut space = space;
    object.unmap(&mut **mmu, &mut space)?;
    let tree = mmu.unpin(space).map_err(|(_, error)| error)?;
    mmu.free_tables(tree);
    Ok(())
}
