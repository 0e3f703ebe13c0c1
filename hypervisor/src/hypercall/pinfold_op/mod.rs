//! pinfold_op: what Pinfold adds to the ABI. See `pinfold_abi::pinfold`.

mod audit;
mod find_aliases;
mod lazy_region;
mod shootdown;

use super::{Args, Outcome, alias_upcall};
use crate::domain::vcpu::Vcpu;
use crate::memory::guest::{self, GuestPtr};
use crate::memory::{frame_dump, report};
use pinfold_abi::errno::Errno;
use pinfold_abi::pinfold::{Command, DumpFrames, MAX_MARK, Mark, Stats, VERSION, VersionInfo};

/// `pinfold_op(command, argument)`.
#[inline(never)]
pub fn run(vcpu: &mut Vcpu, args: &Args) -> Outcome {
    let Some(command) = Command::from_number(args[0]) else {
        return Outcome::Done(Errno::ENOSYS.as_result());
    };
    if let Err(errno) = check_version(args[1]) {
        return Outcome::Done(errno.as_result());
    }
    match command {
        Command::Version => version(args[1]).into(),
        Command::Shootdown => shootdown::run(vcpu, args[1]),
        Command::FindAliases => find_aliases::run(vcpu, args[1]).into(),
        Command::LazyRegion => lazy_region::run(vcpu, args[1]).into(),
        Command::Mark => mark(vcpu, args[1]).into(),
        Command::Stats => stats(vcpu, args[1]).into(),
        Command::Audit => audit::run(vcpu, args[1]).into(),
        Command::AliasUpcall => alias_upcall::register(vcpu, args[1]).into(),
        Command::FreedMap => lazy_region::set_freed(vcpu, args[1]).into(),
        Command::DumpFrames => dump_frames(vcpu, args[1]).into(),
    }
}

/// Every structure starts with the version its caller was built for.
fn check_version(argument: u64) -> Result<(), Errno> {
    if GuestPtr::<u32>::new(argument).read()? == VERSION { Ok(()) } else { Err(Errno::EINVAL) }
}

fn version(argument: u64) -> Result<(), Errno> {
    let mut name = [0; 56];
    let text = concat!("Pinfold ", env!("CARGO_PKG_VERSION"));
    name[..text.len()].copy_from_slice(text.as_bytes());
    GuestPtr::new(argument).write(&VersionInfo { version: VERSION, newest: VERSION, name })
}

fn mark(vcpu: &Vcpu, argument: u64) -> Result<(), Errno> {
    let mark = GuestPtr::<Mark>::new(argument).read()?;
    if mark.len > MAX_MARK {
        return Err(Errno::E2BIG);
    }
    let mut text = [0; MAX_MARK as usize];
    let text = &mut text[..mark.len as usize];
    guest::read_bytes(text, mark.text)?;
    report::mark(&vcpu.domain, text);
    Ok(())
}

fn dump_frames(vcpu: &Vcpu, argument: u64) -> Result<(), Errno> {
    if !vcpu.domain.rights.diagnose {
        return Err(Errno::EPERM);
    }
    let frames = frame_dump::write(&vcpu.domain);
    GuestPtr::new(argument).write(&DumpFrames { version: VERSION, pad: 0, frames })
}

fn stats(vcpu: &Vcpu, argument: u64) -> Result<(), Errno> {
    let s = &vcpu.domain.stats;
    GuestPtr::new(argument).write(&Stats {
        version: VERSION,
        pad: 0,
        pins: s.pins.get(),
        unpins: s.unpins.get(),
        pins_refused: s.pins_refused.get(),
        aliases: s.aliases.get(),
        entry_updates: s.entry_updates.get(),
        updates_refused: s.updates_refused.get(),
        emulated_stores: s.emulated_stores.get(),
        guest_flushes: s.guest_flushes.get(),
        type_flushes: s.type_flushes.get(),
        shootdowns: s.shootdowns.get(),
        shootdown_cleared: s.shootdown_cleared.get(),
        preemptions: s.preemptions.get(),
        upcalls: s.upcalls.get(),
        healed: s.healed.get(),
    })
}
