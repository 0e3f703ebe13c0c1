//! pinfold_op: Pinfold's additions to the ABI. See `pinfold_abi::pinfold` and `docs/pinfold_op/`.

mod audit;
pub mod find_aliases;
mod lazy_region;
mod resume;
mod shootdown;

use super::alias_upcall;
use super::outcome::Outcome;
use crate::arch::ipi;
use crate::diagnostics::frame_dump::FrameDump;
use crate::diagnostics::report;
use crate::domain::vcpu::Args;
use crate::domain::vcpu::Vcpu;
use crate::domain::work::cost;
use crate::memory::guest::{self, GuestPtr};
use crate::time::latency;
use pinfold_abi::errno::Errno;
use pinfold_abi::pinfold::refusals::{BAD_VERSION, MARK_TOO_LONG, NOT_PERMITTED};
use pinfold_abi::pinfold::{
    Command, DumpFrames, MAX_MARK, Mark, STATS_1_SIZE, STATS_VERSION, Stats, VERSION, VersionInfo,
};
use pinfold_validator::Mfn;
use resume::Resume;
use zerocopy::IntoBytes;

/// `pinfold_op(command, argument)`.
#[inline(never)]
pub fn run(vcpu: &mut Vcpu, args: &Args) -> Outcome {
    let Some(command) = Command::from_number(resume::command(args[0])) else {
        return Outcome::Done(Errno::ENOSYS.as_result());
    };
    let version = match check_version(command, args[1]) {
        Ok(version) => version,
        Err(errno) => return Outcome::Done(errno.as_result()),
    };
    match command {
        Command::Version => version_info(args[1]).into(),
        Command::Shootdown => shootdown::run(vcpu, args),
        Command::FindAliases => find_aliases::run(vcpu, args),
        Command::LazyRegion => lazy_region::run(vcpu, args[1]).into(),
        Command::Mark => mark(vcpu, args[1]).into(),
        Command::Stats => stats(vcpu, version, args[1]).into(),
        Command::Audit => audit::run(vcpu, args[1]).into(),
        Command::AliasUpcall => alias_upcall::register(vcpu, args[1]).into(),
        Command::FreedMap => lazy_region::set_freed(vcpu, args[1]).into(),
        Command::DumpFrames => dump_frames(vcpu, args),
    }
}

/// Checks the version that the caller was built for, with which every structure begins.
fn check_version(command: Command, argument: u64) -> Result<u32, Errno> {
    let version = GuestPtr::<u32>::new(argument).read()?;
    let newest = if command == Command::Stats { STATS_VERSION } else { VERSION };
    if (VERSION..=newest).contains(&version) { Ok(version) } else { Err(BAD_VERSION.into()) }
}

fn version_info(argument: u64) -> Result<(), Errno> {
    let mut name = [0; 56];
    let text = concat!("Pinfold ", env!("CARGO_PKG_VERSION"));
    name[..text.len()].copy_from_slice(text.as_bytes());
    GuestPtr::new(argument).write(&VersionInfo { version: VERSION, newest: STATS_VERSION, name })
}

fn mark(vcpu: &Vcpu, argument: u64) -> Result<(), Errno> {
    let mark = GuestPtr::<Mark>::new(argument).read()?;
    if mark.len > MAX_MARK {
        return Err(MARK_TOO_LONG.into());
    }
    let mut text = [0; MAX_MARK as usize];
    let text = &mut text[..mark.len as usize];
    guest::read_bytes(text, mark.text)?;
    report::mark(&vcpu.domain, text);
    Ok(())
}

/// Dumps the domain's frames to the log, some records at a time.
fn dump_frames(vcpu: &mut Vcpu, args: &Args) -> Outcome {
    if !vcpu.domain.rights.diagnose {
        return Outcome::Done(NOT_PERMITTED.errno.as_result());
    }
    let mut resume = Resume::of(args);
    let mut dump = FrameDump::from(Mfn::new(resume.next), resume.done);
    while !dump.step(&vcpu.domain) {
        vcpu.work.charge(cost::RECORD);
        ipi::service_ipis();
        if vcpu.work.is_time_up() {
            (resume.next, resume.done) = (dump.next().get(), dump.told());
            return resume.suspend(vcpu, args);
        }
    }
    let told = DumpFrames { version: VERSION, pad: 0, frames: dump.told() };
    GuestPtr::new(args[1]).write(&told).into()
}

fn stats(vcpu: &Vcpu, version: u32, argument: u64) -> Result<(), Errno> {
    let s = &vcpu.domain.stats;
    // Latencies are the whole machine's: only guests with the right to diagnose get them.
    let [ipi_ns, irq_off_ns, sched_ns] =
        if vcpu.domain.rights.diagnose { latency::longest() } else { [0; 3] };
    let stats = Stats {
        version,
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
        ipi_ns,
        irq_off_ns,
        sched_ns,
    };
    let bytes = stats.as_bytes();
    let size = if version == 1 { STATS_1_SIZE } else { bytes.len() };
    guest::write_bytes(argument, &bytes[..size])
}
