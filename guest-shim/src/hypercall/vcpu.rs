//! `vcpu_op`, and the timer call beside it.

use super::{Errno, address, call, check};
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::vcpu::{
    self, PeriodicTimer, RegisterArea, RegisterVcpuInfo, RunstateInfo, SingleshotTimer,
    VcpuGuestContext,
};

/// Makes the call without an argument.
fn plain(command: u64, vcpu: u32) -> Result<u64, Errno> {
    // SAFETY: these commands take no pointer. One that stops a vCPU stops nothing that Rust
    // relies on.
    check(unsafe { call(Hypercall::VcpuOp as u64, [command, vcpu.into(), 0, 0, 0]) })
}

/// Makes the call with an argument.
///
/// # Safety
///
/// The argument must be the command's structure, and what it names must be the hypervisor's to
/// write if the command does.
unsafe fn with<T>(command: u64, vcpu: u32, argument: &mut T) -> Result<(), Errno> {
    let args = [command, vcpu.into(), address(core::ptr::from_mut(argument)), 0, 0];
    // SAFETY: passed on to the caller.
    check(unsafe { call(Hypercall::VcpuOp as u64, args) }).map(drop)
}

/// Sets a vCPU's initial state.
///
/// # Errors
///
/// -EEXIST for one that has a state already, -ENOENT for an unknown one, -EINVAL for a state that
/// cannot be.
///
/// # Safety
///
/// The state must be one that the code at its address can run in.
pub unsafe fn initialise(vcpu: u32, context: &mut VcpuGuestContext) -> Result<(), Errno> {
    // SAFETY: the call reads the structure; the rest is the caller's.
    unsafe { with(vcpu::VCPUOP_INITIALISE, vcpu, context) }
}

/// Starts a vCPU.
///
/// # Errors
///
/// -EINVAL for one without a state, -ENOENT for an unknown one.
pub fn up(vcpu: u32) -> Result<(), Errno> {
    plain(vcpu::VCPUOP_UP, vcpu).map(drop)
}

/// Stops a vCPU. One that stops itself continues after this call when it is started again.
///
/// # Errors
///
/// -ENOENT for an unknown one.
pub fn down(vcpu: u32) -> Result<(), Errno> {
    plain(vcpu::VCPUOP_DOWN, vcpu).map(drop)
}

/// Whether a vCPU may run.
///
/// # Errors
///
/// -ENOENT for an unknown one.
pub fn is_up(vcpu: u32) -> Result<bool, Errno> {
    plain(vcpu::VCPUOP_IS_UP, vcpu).map(|up| up != 0)
}

/// Reads how long a vCPU was in which state.
///
/// # Errors
///
/// -ENOENT for an unknown one.
pub fn runstate(vcpu: u32) -> Result<RunstateInfo, Errno> {
    let mut info = RunstateInfo::default();
    // SAFETY: the call writes this structure.
    unsafe { with(vcpu::VCPUOP_GET_RUNSTATE_INFO, vcpu, &mut info) }?;
    Ok(info)
}

/// Has a copy of a vCPU's [`RunstateInfo`] kept up to date at an address; `None` ends that.
///
/// # Errors
///
/// -ENOENT for an unknown one, -EFAULT for an address that cannot be written.
///
/// # Safety
///
/// The place is written at any moment from now on: nothing else may be there.
pub unsafe fn register_runstate_area(
    vcpu: u32,
    place: Option<*mut RunstateInfo>,
) -> Result<(), Errno> {
    let mut area = RegisterArea { address: place.map_or(0, |place| address(place)) };
    // SAFETY: the call reads the structure; the rest is the caller's.
    unsafe { with(vcpu::VCPUOP_REGISTER_RUNSTATE_AREA, vcpu, &mut area) }
}

/// Has the vCPU's timer interrupt come every so many ns.
///
/// # Errors
///
/// -EINVAL for a period that is too short (less than a millisecond), or too long.
pub fn set_periodic_timer(vcpu: u32, period_ns: u64) -> Result<(), Errno> {
    // SAFETY: the call reads the structure.
    unsafe { with(vcpu::VCPUOP_SET_PERIODIC_TIMER, vcpu, &mut PeriodicTimer { period_ns }) }
}

/// Ends that.
///
/// # Errors
///
/// -ENOENT for an unknown vCPU.
pub fn stop_periodic_timer(vcpu: u32) -> Result<(), Errno> {
    plain(vcpu::VCPUOP_STOP_PERIODIC_TIMER, vcpu).map(drop)
}

/// Has the caller's timer interrupt come once, at this system time in ns; at once if it is over.
///
/// # Errors
///
/// -EINVAL for another vCPU than the caller.
pub fn set_singleshot_timer(vcpu: u32, timeout_abs_ns: u64, flags: u32) -> Result<(), Errno> {
    let mut timer = SingleshotTimer { timeout_abs_ns, flags, pad: 0 };
    // SAFETY: the call reads the structure.
    unsafe { with(vcpu::VCPUOP_SET_SINGLESHOT_TIMER, vcpu, &mut timer) }
}

/// Takes that back.
///
/// # Errors
///
/// -EINVAL for another vCPU than the caller.
pub fn stop_singleshot_timer(vcpu: u32) -> Result<(), Errno> {
    plain(vcpu::VCPUOP_STOP_SINGLESHOT_TIMER, vcpu).map(drop)
}

/// Moves a vCPU's record from the shared page to this place in a frame of the guest.
///
/// # Errors
///
/// -EINVAL for a bad place or a second time.
///
/// # Safety
///
/// The place is written at any moment from now on: nothing else may be there.
pub unsafe fn register_vcpu_info(vcpu: u32, mfn: u64, offset: u32) -> Result<(), Errno> {
    let mut place = RegisterVcpuInfo { mfn, offset, reserved: 0 };
    // SAFETY: the call reads the structure; the rest is the caller's.
    unsafe { with(vcpu::VCPUOP_REGISTER_VCPU_INFO, vcpu, &mut place) }
}

/// `set_timer_op`: the caller's timer interrupt comes once at this system time in ns; 0 takes it
/// back. It shares the timer of [`set_singleshot_timer`].
///
/// # Errors
///
/// The hypervisor's refusal.
pub fn set_timer(timeout_abs_ns: u64) -> Result<(), Errno> {
    // SAFETY: the call takes no pointer.
    check(unsafe { call(Hypercall::SetTimerOp as u64, [timeout_abs_ns, 0, 0, 0, 0]) }).map(drop)
}
