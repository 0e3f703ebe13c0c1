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

/// Who the hypervisor is.
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

/// What the hypervisor did for this guest.
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

/// Has the hypervisor recount every reference.
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

/// Has the hypervisor write to its log what the frames of this guest are; how many they are.
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

/// Puts a line in the hypervisor's log: what follows there belongs to it.
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

/// Says where the running vCPU is entered when a pin of its meets an alias, and what is written
/// where first: an [`AliasesFound`](pinfold_abi::pinfold::AliasesFound) with room for so many
/// mappings behind it. Address 0: nowhere.
///
/// # Errors
///
/// -EINVAL if an address is not the guest's or there is no room, or more than
/// [`MAX_UPCALL_MAPPINGS`](pinfold_abi::pinfold::MAX_UPCALL_MAPPINGS); -ENOSYS where there is no
/// such call.
///
/// # Safety
///
/// The code at the address takes what is pushed there, and the buffer is for nobody else's use.
pub unsafe fn alias_upcall(address: u64, buffer: u64, room: u32) -> Result<(), Errno> {
    let mut argument = AliasUpcall { version: VERSION, room, address, buffer };
    // SAFETY: the call reads the structure; what comes of it is the caller's care.
    unsafe { op(Command::AliasUpcall, &mut argument) }
}
