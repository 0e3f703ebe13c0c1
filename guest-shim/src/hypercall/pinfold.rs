//! `pinfold_op`, the commands that change no mapping. On a hypervisor without the call each is
//! -ENOSYS.

use super::{Errno, address, call, check};
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::pinfold::{
    AliasUpcall, Audit, Command, DumpFrames, Mark, STATS_VERSION, Stats, VERSION, VersionInfo,
};

/// Makes the call.
///
/// # Safety
///
/// The argument must be the command's structure, and what it points to must be valid for what the
/// command does.
unsafe fn op<T>(command: Command, argument: &mut T) -> Result<(), Errno> {
    let args = [command as u64, address(core::ptr::from_mut(argument)), 0, 0, 0];
    // SAFETY: passed on to the caller.
    check(unsafe { call(Hypercall::PinfoldOp as u64, args) }).map(drop)
}

/// Reads the version and name of the hypervisor.
///
/// # Errors
///
/// -ENOSYS where there is no such call.
pub fn version() -> Result<VersionInfo, Errno> {
    let mut info = VersionInfo { version: VERSION, newest: 0, name: [0; 56] };
    // SAFETY: the call reads and writes this structure.
    unsafe { op(Command::Version, &mut info) }?;
    Ok(info)
}

/// Reads the counters of this guest.
///
/// # Errors
///
/// -ENOSYS where there is no such call.
pub fn stats() -> Result<Stats, Errno> {
    let mut stats = Stats { version: STATS_VERSION, ..Stats::default() };
    // SAFETY: the call reads and writes this structure.
    unsafe { op(Command::Stats, &mut stats) }?;
    Ok(stats)
}

/// Makes the hypervisor recount every reference.
///
/// # Errors
///
/// -EPERM if the guest may not diagnose, -ENOSYS where there is no such call.
pub fn audit() -> Result<Audit, Errno> {
    let mut audit = Audit { version: VERSION, ..Audit::default() };
    // SAFETY: the call reads and writes this structure.
    unsafe { op(Command::Audit, &mut audit) }?;
    Ok(audit)
}

/// Makes the hypervisor write the types of this guest's frames to its log. Returns how many frames
/// there are.
///
/// # Errors
///
/// -EPERM if the guest may not diagnose, -ENOSYS where there is no such call.
pub fn dump_frames() -> Result<u64, Errno> {
    let mut dump = DumpFrames { version: VERSION, ..DumpFrames::default() };
    // SAFETY: the call reads and writes this structure.
    unsafe { op(Command::DumpFrames, &mut dump) }?;
    Ok(dump.frames)
}

/// Writes a line to the hypervisor's log, to relate what follows there to it.
///
/// # Errors
///
/// -E2BIG for more than [`MAX_MARK`](pinfold_abi::pinfold::MAX_MARK) bytes, -ENOSYS where there
/// is no such call.
pub fn mark(text: &str) -> Result<(), Errno> {
    let mut mark = Mark { version: VERSION, len: text.len() as u32, text: address(text.as_ptr()) };
    // SAFETY: the call reads the structure and the text.
    unsafe { op(Command::Mark, &mut mark) }
}

/// Registers the alias upcall of the running vCPU: the address where it is entered when one of its
/// pins meets an alias, and the buffer that is written before, an
/// [`AliasesFound`](pinfold_abi::pinfold::AliasesFound) followed by room for so many mappings.
/// Address 0 disables the upcall.
///
/// # Errors
///
/// -EINVAL if an address is not the guest's or there is no room, or more than
/// [`MAX_UPCALL_MAPPINGS`](pinfold_abi::pinfold::MAX_UPCALL_MAPPINGS); -ENOSYS where there is no
/// such call.
///
/// # Safety
///
/// The code at the address must pop what the hypervisor pushes, and nothing else may use the
/// buffer.
pub unsafe fn alias_upcall(address: u64, buffer: u64, room: u32) -> Result<(), Errno> {
    let mut argument = AliasUpcall { version: VERSION, room, address, buffer };
    // SAFETY: the call reads the structure; the rest is the caller's duty.
    unsafe { op(Command::AliasUpcall, &mut argument) }
}
