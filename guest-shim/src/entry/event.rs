//! Events: the upcall, who handles which port, and keeping events out for a while.
//!
//! Nothing is delivered before [`init`] has mapped the shared page and [`unmask`] was called.
//! Handlers run on the interrupted code's stack with events masked; one that unmasks them may be
//! interrupted by others.

use super::boot::Boot;
use super::frame::TrapFrame;
use super::memory::Frames;
use super::percpu::this;
use crate::addr::{PAGE_SIZE, Vaddr};
use crate::hypercall::event::{self, Port};
use crate::hypercall::{Errno, address, call, check, version};
use crate::shared::{SharedPage, ports, take_selector};
use core::cell::UnsafeCell;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering, compiler_fence};
use pinfold_abi::event::PORTS;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::mmu::{EntryFlags, UVMF_INVLPG};

/// What is called for a port's event.
pub type Handler = fn(Port);

static HANDLERS: [AtomicPtr<()>; PORTS as usize] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; PORTS as usize];
/// Events of ports without a handler.
static STRAY: AtomicU64 = AtomicU64::new(0);

/// A page of the image whose place the shared page takes.
#[repr(C, align(4096))]
struct Place(UnsafeCell<[u8; PAGE_SIZE as usize]>);
// SAFETY: nothing uses the bytes; after `init` the page there is made of atomics.
unsafe impl Sync for Place {}
static PLACE: Place = Place(UnsafeCell::new([0; PAGE_SIZE as usize]));
static SHARED: AtomicPtr<SharedPage> = AtomicPtr::new(core::ptr::null_mut());

/// Maps the shared page and finds the boot vCPU's record in it.
///
/// # Errors
///
/// The hypervisor's refusal.
pub fn init(boot: &Boot) -> Result<&'static SharedPage, Errno> {
    const RW: EntryFlags = EntryFlags::PRESENT
        .union(EntryFlags::WRITABLE)
        .union(EntryFlags::ACCESSED)
        .union(EntryFlags::DIRTY);
    let place = PLACE.0.get().cast::<SharedPage>();
    let entry = boot.start_info().shared_info | RW.bits();
    // SAFETY: the page at this place holds nothing.
    check(unsafe {
        call(Hypercall::UpdateVaMapping as u64, [address(place), entry, UVMF_INVLPG, 0, 0])
    })?;
    SHARED.store(place, Release);
    // SAFETY: just mapped, for good; any bytes are valid atomics.
    let shared: &'static SharedPage = unsafe { &*place };
    let cpu = this();
    cpu.set_record(&shared.vcpus[cpu.id() as usize]);
    Ok(shared)
}

/// The shared page, once it is mapped.
pub fn shared() -> Option<&'static SharedPage> {
    let shared = SHARED.load(Acquire);
    // SAFETY: null, or mapped by `init`.
    unsafe { shared.cast_const().as_ref() }
}

/// Has a port's events handled by this function on the vCPU that they go to. One that came before
/// is delivered now: an upcall that found nobody for it left it pending, and what is pending
/// raises nothing any more.
///
/// # Panics
///
/// If there is no such port.
pub fn handle(port: Port, vcpu: &super::percpu::PerCpu, handler: Handler) {
    HANDLERS[port.0 as usize].store(handler as *mut (), Release);
    ports::set(&vcpu.ports, port.0);
    let masked = shared().is_none_or(|shared| ports::has(&shared.mask, port.0));
    if is_pending(port) && !masked {
        mask_port(port);
        // Only a port that does not exist is refused, and that one is never pending.
        let _ = unmask_port(port);
    }
}

/// Has a port's events go unhandled on this vCPU.
///
/// # Panics
///
/// If there is no such port.
pub fn forget(port: Port, vcpu: &super::percpu::PerCpu) {
    ports::clear(&vcpu.ports, port.0);
    HANDLERS[port.0 as usize].store(core::ptr::null_mut(), Release);
}

/// Events so far that came to a port without a handler.
pub fn strays() -> u64 {
    STRAY.load(Relaxed)
}

/// Called by the entry code, with events masked.
pub(super) fn upcall(_frame: &mut TrapFrame) {
    let cpu = this();
    cpu.upcalls.fetch_add(1, Relaxed);
    let (Some(record), Some(shared)) = (cpu.record(), shared()) else { return };
    // A trap in a handler is not the one that the interrupted code may expect.
    let landing = cpu.landing.swap(0, Relaxed);
    cpu.depth.fetch_add(1, Relaxed);
    while record.upcall_pending.load(SeqCst) != 0 {
        let selector = take_selector(record);
        ports::take(selector, &shared.pending, &shared.mask, &cpu.ports, deliver);
    }
    cpu.depth.fetch_sub(1, Relaxed);
    cpu.landing.store(landing, Relaxed);
}

fn deliver(port: u32) {
    let handler = HANDLERS[port as usize].load(Acquire);
    if handler.is_null() {
        STRAY.fetch_add(1, Relaxed);
        return;
    }
    // SAFETY: only `handle` and `forget` store here: null or a `Handler`.
    let handler = unsafe { core::mem::transmute::<*mut (), Handler>(handler) };
    handler(Port(port));
}

/// How deep in event handlers the running vCPU is: 0 outside.
pub fn depth() -> u32 {
    this().depth.load(Relaxed)
}

/// Keeps events out on this vCPU; whether they could come in before.
pub fn mask() -> bool {
    let Some(record) = this().record() else { return false };
    let open = record.upcall_mask.swap(1, Relaxed) == 0;
    compiler_fence(Ordering::SeqCst);
    open
}

/// Whether events can come in on this vCPU.
pub fn is_open() -> bool {
    this().record().is_some_and(|record| record.upcall_mask.load(Relaxed) == 0)
}

/// Lets events in on this vCPU. One that became pending meanwhile is delivered before this
/// returns: the hypervisor saw the mask then and did nothing, so that somebody must look, and
/// after the mask is cleared, or one that comes in between is seen by nobody.
pub fn unmask() {
    let Some(record) = this().record() else { return };
    record.upcall_mask.store(0, SeqCst);
    if record.upcall_pending.load(SeqCst) != 0 {
        deliver_now();
    }
}

/// Makes the hypervisor look for events that can be delivered: any call does, on its way back.
pub fn deliver_now() {
    // The answer is of no interest.
    let _ = version::version();
}

/// Runs a function with events kept out.
pub fn without<T>(run: impl FnOnce() -> T) -> T {
    let open = mask();
    let value = run();
    if open {
        unmask();
    }
    value
}

/// Masks a port.
pub fn mask_port(port: Port) {
    if let Some(shared) = shared() {
        ports::set(&shared.mask, port.0);
    }
}

/// Unmasks a port; an event that it got meanwhile is delivered.
///
/// # Errors
///
/// As [`event::unmask`].
pub fn unmask_port(port: Port) -> Result<(), Errno> {
    event::unmask(port)
}

/// Whether a port is pending.
pub fn is_pending(port: Port) -> bool {
    shared().is_some_and(|shared| ports::has(&shared.pending, port.0))
}

/// Clears a port's pending bit; whether it was set. For ports that are masked and polled.
pub fn clear_pending(port: Port) -> bool {
    shared().is_some_and(|shared| ports::clear(&shared.pending, port.0))
}

/// Moves the running vCPU's record to a page of its own, as a guest with more vCPUs than the
/// shared page has records must.
///
/// # Errors
///
/// The hypervisor's refusal; -EINVAL a second time.
///
/// # Safety
///
/// The page, one of the image or the heap, is the hypervisor's to write from now on.
pub unsafe fn move_record(frames: &Frames, page: *mut u8, offset: u32) -> Result<(), Errno> {
    let pfn = frames.pfn_at(Vaddr(address(page))).unwrap_or_default();
    let mfn = frames.mfn(pfn).unwrap_or_default();
    let cpu = this();
    let open = mask();
    // SAFETY: the caller gives the page away.
    let moved = unsafe { crate::hypercall::vcpu::register_vcpu_info(cpu.id(), mfn.0, offset) };
    if moved.is_ok() {
        // SAFETY: the record is there now, for good; any bytes are valid atomics.
        cpu.set_record(unsafe { &*page.add(offset as usize).cast() });
    }
    if open {
        unmask();
    }
    moved
}
