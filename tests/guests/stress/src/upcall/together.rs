//! All vCPUs at once: each pins without the lock, and gets an upcall for its own pin.

use super::{Counts, Stray, equal, make_stray};
use crate::failure::Failed;
use crate::failure::Failure;
use crate::scenarios::Fixture;
use pinfold_abi::mmu::{MmuextCmd, UVMF_ALL, UVMF_INVLPG};
use pinfold_guest::addr::Pfn;
use pinfold_guest::entry::{Native, alias};
use pinfold_guest::fixtures::{RO, RW};
use pinfold_guest::mmu::{Error, Mmu};
use pinfold_guest::platform::Platform;
use pinfold_guest::println;
use pinfold_guest::raw;

/// Rounds at most: the shim must not purge dead mappings in the middle of another vCPU's round.
const MOST: u64 = 500;

pub(super) fn run(fixture: &Fixture<'_>, rounds: u64) -> Result<(), Failed> {
    let rounds = rounds.min(MOST);
    let before = Counts::now().map_err(|_| Failed)?;
    fixture.all(rounds, |_, _, _| run_round(fixture))?;
    fixture.all(fixture.count() as u64, |_, _, _| {
        alias::disable().map_err(|errno| Error::Refused(errno).into())
    })?;
    // The order of the upcalls doesn't matter: all mappings are cleared.
    fixture.mmu().platform().take_cleared();
    before.check_growth("on all vCPUs", [rounds, rounds, 0, rounds]).map_err(|wrong| {
        println!("upcall: {wrong}");
        Failed
    })
}

fn run_round(fixture: &Fixture<'_>) -> Result<(), Failure> {
    alias::enable(alias::clear).map_err(Error::Refused)?;
    let mut owner = fixture.mmu();
    let Stray { tree, .. } = make_stray(&mut owner, 1, 1)?;
    let frame = tree.frames()[0];
    set_home(&mut owner, frame, RO)?;
    let mfn = owner.mfn(frame).0;
    drop(owner);
    // SAFETY: a pin changes no mapping, and the table is of no use to anybody else.
    let pinned = unsafe { raw::mmuext(MmuextCmd::PinL1Table as u32, mfn, 0) };
    equal("a pin beside others", pinned, 0)?;
    // SAFETY: nobody has the table loaded.
    let unpinned = unsafe { raw::mmuext(MmuextCmd::UnpinTable as u32, mfn, 0) };
    equal("unpinned", unpinned, 0)?;
    let mut owner = fixture.mmu();
    set_home(&mut owner, frame, RW)?;
    owner.free_tables(tree);
    Ok(())
}

fn set_home(mmu: &mut Mmu<Native>, frame: Pfn, flags: u64) -> Result<(), Failure> {
    let entry = (mmu.direct_map_va(frame), mmu.mfn(frame).address() | flags);
    let platform = mmu.platform();
    platform.update_va_mappings(&[entry], UVMF_INVLPG | UVMF_ALL).map_err(Error::Refused)?;
    Ok(())
}
