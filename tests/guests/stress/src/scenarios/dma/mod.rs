//! Scenario 3: devices that still write to pages that were freed.
//!
//! An object is mapped for user mode in large aligned runs. A device gets some of its pages to
//! write to. Before the transfer has ended, the object is unmapped and freed, and its pages are
//! used again. Another vCPU, or the same one later, acts as the device.

mod broken;
mod fixed;

pub(super) use broken::run as broken;
pub(super) use fixed::run as fixed;

use super::Fixture;
use super::fixture::Owner;
use crate::failure::Failed;
use crate::failure::Failure;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::dma::{Device, Object, RUN_PAGES};
use pinfold_guest::fixtures::Random;
use pinfold_guest::mmu::AddressSpace;
use pinfold_guest::println;

/// Where objects are mapped.
const AT: Vaddr = Vaddr(0x0000_7654_4000_0000);

/// Opens the devices.
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

/// Chooses the size of an object: few pages, a whole run, or a little more.
fn pages(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => RUN_PAGES,
        1 => RUN_PAGES + 1 + random.below(16),
        _ => 1 + random.below(24),
    }
}

/// Makes an address space with an object in it.
fn map_object(mmu: &mut Owner<'_>, pages: u64) -> Result<(AddressSpace, Object), Failure> {
    let mut tree = mmu.alloc_root()?;
    mmu.alloc_intermediate_tables(&mut tree, AT)?;
    let mut space = mmu.pin(tree).map_err(|(_, error)| error)?;
    let mut object = Object::new(&mut **mmu, pages)?;
    object.map(&mut **mmu, &mut space, AT)?;
    Ok((space, object))
}

/// Unmaps the object, and frees the address space.
fn unmap_object(
    mmu: &mut Owner<'_>,
    space: AddressSpace,
    object: &mut Object,
) -> Result<(), Failure> {
    let mut space = space;
    object.unmap(&mut **mmu, &mut space)?;
    let tree = mmu.unpin(space).map_err(|(_, error)| error)?;
    mmu.free_tables(tree);
    Ok(())
}
