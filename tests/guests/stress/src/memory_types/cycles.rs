//! Changes of the memory type of frames that have lazy mappings.

use super::Policy as Mixing;
use crate::failure::Failed;
use crate::failure::Failure;
use crate::scenarios::Fixture;
use crate::words;
use alloc::vec::Vec;
use pinfold_abi::errno::Errno;
use pinfold_abi::mmu::{EntryFlags, MemoryType, UVMF_ALL, UVMF_INVLPG};
use pinfold_guest::addr::{Pfn, Vaddr};
use pinfold_guest::entry::Native;
use pinfold_guest::fixtures::Random;
use pinfold_guest::hypercall::pinfold;
use pinfold_guest::mmu::{Error, Mmu};
use pinfold_guest::platform::Platform;
use pinfold_guest::println;
use pinfold_guest::vmap::Policy;

/// Flags of an entry of the direct map.
const HOME: u64 = EntryFlags::PRESENT.union(EntryFlags::WRITABLE).bits();
/// Number of ways in which a lazy mapping is left.
const WAYS: u64 = 3;
/// Policies of the shim that the fixed form is run with.
const POLICIES: [Policy; 6] = [
    Policy::Eager,
    Policy::Batch(64),
    Policy::Lazy,
    Policy::HoldRefs,
    Policy::Hinted,
    Policy::Targeted,
];

fn other_type(random: &mut Random) -> MemoryType {
    MemoryType::ALL[1 + random.below(MemoryType::ALL.len() as u64 - 1) as usize]
}

/// Changes types without knowing of a lazy mapping: unmaps the frame from the direct map and maps
/// it again with another type. The hypervisor must refuse that, or report it, and name the mapping.
pub(super) fn broken(
    mmu: &mut Mmu<Native>,
    random: &mut Random,
    rounds: u64,
    mixing: Mixing,
) -> Result<(), Failed> {
    let failed = |error: Failure, round: u64| {
        println!("memory: broken round {round}: {error}");
        Failed
    };
    mmu.set_policy(Policy::Lazy).map_err(|error| failed(error.into(), 0))?;
    let (mut seeded, mut refused, mut named) = (0, 0, 0);
    for round in 0..rounds {
        for way in 0..WAYS {
            let _ = pinfold::mark("memory types: a change that forgets a lazy mapping");
            seeded += 1;
            let was_refused =
                forget(mmu, random, way, mixing).map_err(|error| failed(error, round))?;
            refused += u64::from(was_refused);
            // Otherwise this is an error already.
            named += 1;
        }
    }
    println!("MEMORY form=broken seeded={seeded} refused={refused} named={named}");
    Ok(())
}

/// Leaves a mapping of a frame. Returns its address.
fn leave_mapping(mmu: &mut Mmu<Native>, frame: Pfn, way: u64) -> Result<Vaddr, Error> {
    match way {
        0 => {
            let area = mmu.vmap(&[frame])?;
            let va = area.start();
            mmu.store(va, frame.0);
            mmu.vunmap(area)?;
            Ok(va)
        }
        1 => {
            let mapped = mmu.kmap(frame)?;
            let va = mapped.va();
            mmu.store(va, frame.0);
            mmu.kunmap(mapped);
            Ok(va)
        }
        _ => {
            let from = mmu.alloc_frame()?;
            mmu.write(from, 0, frame.0);
            mmu.copy_frame(0, from, frame)?;
            mmu.free_frame(from);
            Ok(mmu.kmap_pair(0)[1])
        }
    }
}

/// Makes one change that forgets a mapping. Returns whether it was refused.
fn forget(
    mmu: &mut Mmu<Native>,
    random: &mut Random,
    way: u64,
    mixing: Mixing,
) -> Result<bool, Failure> {
    let frame = mmu.alloc_frame()?;
    let left = leave_mapping(mmu, frame, way)?;
    let (home, plain) = (mmu.direct_map_va(frame), mmu.mfn(frame).address() | HOME);
    let wanted = plain | other_type(random).flags().bits();
    set_home(mmu, home, 0)?;
    let refused = match (set_home(mmu, home, wanted), mixing) {
        (Err(Error::Refused(errno)), Mixing::Strict) if errno == Errno::EINVAL => true,
        (Ok(()), Mixing::Report) => false,
        (Err(error), _) => return Err(Failure::Otherwise(error)),
        (Ok(()), Mixing::Strict) => {
            return Err(Failure::Other("a mix of memory types was accepted"));
        }
    };
    let mut found = mmu.find_aliases(&[frame]).map_err(Error::Refused)?;
    found.retain(|mapping| Vaddr(mapping.va) != home);
    match found.as_slice() {
        [mapping] if Vaddr(mapping.va) == left => {}
        [] => return Err(Failure::NotNamed(left, 0)),
        others => return Err(Failure::Surplus(Vaddr(others[0].va))),
    }
    // The right way.
    set_home(mmu, home, 0)?;
    mmu.purge_vmap()?;
    mmu.purge_kmap()?;
    set_home(mmu, home, wanted)?;
    if mmu.read(frame, 0) != frame.0 {
        return Err(Failure::Other("the contents are lost"));
    }
    set_home(mmu, home, 0)?;
    set_home(mmu, home, plain)?;
    mmu.free_frame(frame);
    Ok(refused)
}

/// Sets a frame's entry in the direct map, around the shim.
fn set_home(mmu: &mut Mmu<Native>, home: Vaddr, entry: u64) -> Result<(), Error> {
    Ok(mmu.platform().update_va_mappings(&[(home, entry)], UVMF_INVLPG | UVMF_ALL)?)
}

/// Changes types through the shim on all vCPUs at once, with lazy mappings of the same frames:
/// nothing may be refused, reported or lost.
pub(super) fn fixed(fixture: &Fixture<'_>) -> Result<(), Failed> {
    let before = fixture.mmu().stats();
    let (rounds, policies) = (fixture.rounds(), POLICIES.len() as u64);
    for (place, policy) in (0..policies).zip(POLICIES) {
        fixture.set_policy(policy)?;
        let share = rounds / policies + u64::from(place < rounds % policies);
        fixture.all(share, |cpu, _, random| cycle(fixture, cpu, random))?;
    }
    let done = fixture.mmu().stats() - before;
    println!(
        "MEMORY form=fixed rounds={rounds} refused=0 vcpus={} retyped={} retypes_after_clear={} cleared={} flushes={}",
        fixture.count(),
        done.retyped,
        done.retypes_after_clear,
        done.cleared,
        done.flushes
    );
    Ok(())
}

/// Uses some frames lazily, changes their type, uses them again, changes it back, and makes a
/// table of one.
fn cycle(fixture: &Fixture<'_>, cpu: usize, random: &mut Random) -> Result<(), Failure> {
    let frames: Vec<Pfn> = {
        let mut mmu = fixture.mmu();
        (0..=random.below(4)).map(|_| mmu.alloc_frame()).collect::<Result<_, _>>()?
    };
    use_lazily(fixture, cpu, &frames, random)?;
    // Sometimes from one type to another, without write-back in between.
    for _ in 0..=random.below(2) {
        fixture.mmu().set_memory_type(&frames, other_type(random))?;
        use_lazily(fixture, cpu, &frames, random)?;
    }
    fixture.mmu().set_memory_type(&frames, MemoryType::WriteBack)?;
    use_lazily(fixture, cpu, &frames, random)?;
    let mut mmu = fixture.mmu();
    for frame in frames {
        mmu.free_frame(frame);
    }
    // The frame that was freed last becomes the table.
    let tree = mmu.alloc_tables(1)?;
    let space = mmu.pin(tree).map_err(|(_, error)| error)?;
    let tree = mmu.unpin(space).map_err(|(_, error)| error)?;
    mmu.free_tables(tree);
    Ok(())
}

/// Writes to frames through each kind of lazy mapping while others change mappings, checks the
/// contents in the direct map, and frees the mappings.
fn use_lazily(
    fixture: &Fixture<'_>,
    cpu: usize,
    frames: &[Pfn],
    random: &mut Random,
) -> Result<(), Failure> {
    let area = fixture.mmu().vmap(frames)?;
    for (page, &frame) in (0..).zip(frames) {
        let (va, stamp) = (area.start().page(page), random.next_u64());
        words::store(va, stamp);
        if fixture.mmu().read(frame, 0) != stamp {
            return Err(Failure::Other("what was written through an area is missing"));
        }
        let mapped = fixture.mmu().kmap(frame)?;
        words::check(mapped.va(), stamp)?;
        words::store(mapped.va(), !stamp);
        words::check(va, !stamp)?;
        fixture.mmu().kunmap(mapped);
    }
    let mut mmu = fixture.mmu();
    if let [first, .., last] = *frames {
        mmu.copy_frame(cpu, first, last)?;
        if mmu.read(last, 0) != mmu.read(first, 0) {
            return Err(Failure::Other("what was copied is missing"));
        }
    }
    Ok(mmu.vunmap(area)?)
}
