//! Events: the upcall, the handlers of ports, and masking.
//!
//! Nothing is delivered before [`init`] has mapped the shared page and [`unmask`] was called.
//! Handlers run on the stack of the interrupted code with events masked. A handler that unmasks
//! them may be interrupted by others.
//!
//! In ring 3 the record's mask byte masks events, in the container RFLAGS.IF does.

use super::boot::Boot;
use super::container::cpu;
use super::frame::TrapFrame;
use super::memory::Frames;
use super::percpu::this;
use crate::addr::{PAGE_SIZE, Vaddr};
use crate::hypercall::event::{self, Port};
use crate::hypercall::{Errno, address, call, check, in_container, version};
use crate::shared::{SharedPage, VcpuRecord, ports, take_selector};
use core::cell::UnsafeCell;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicPtr, AtomicU64, compiler_fence};
use pinfold_abi::event::PORTS;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::mmu::{EntryFlags, UVMF_INVLPG};

/// Handles an event of a port.
pub type Handler = fn(Port);

static HANDLERS: [AtomicPtr<()>; PORTS as usize] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; PORTS as usize];
/// Events of ports without a handler.
static STRAY: AtomicU64 = AtomicU64::new(0);

/// A page of the image whose address the shared page gets.
#[repr(C, align(4096))]
struct SharedPageSlot(UnsafeCell<[u8; PAGE_SIZE as usize]>);
// SAFETY: nothing uses the bytes; after `init` the page there is made of atomics.
unsafe impl Sync for SharedPageSlot {}
static SLOT: SharedPageSlot = SharedPageSlot(UnsafeCell::new([0; PAGE_SIZE as usize]));
static SHARED: AtomicPtr<SharedPage> = AtomicPtr::new(core::ptr::null_mut());

/// Maps the shared page. The boot vCPU uses its record in it from then on.
///
/// # Errors
///
/// The hypervisor's refusal.
pub fn init(boot: &Boot) -> Result<&'static SharedPage, Errno> {
    const RW: EntryFlags = EntryFlags::PRESENT
        .union(EntryFlags::WRITABLE)
        .union(EntryFlags::ACCESSED)
        .union(EntryFlags::DIRTY);
    let slot = SLOT.0.get().cast::<SharedPage>();
    let entry = boot.start_info().shared_info | RW.bits();
    // SAFETY: the page at this address holds nothing.
    check(unsafe {
        call(Hypercall::UpdateVaMapping as u64, [address(slot), entry, UVMF_INVLPG, 0, 0])
    })?;
    SHARED.store(slot, Release);
    // SAFETY: just mapped, for good; any bytes are valid atomics.
    let shared: &'static SharedPage = unsafe { &*slot };
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

/// Sets the handler of a port's events, on the vCPU that they go to. An event that came before is
/// delivered now: an upcall found no handler and left it pending, and a pending port raises no
/// upcall.
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

/// Removes the handler of a port's events on this vCPU.
///
/// # Panics
///
/// If there is no such port.
pub fn forget(port: Port, vcpu: &super::percpu::PerCpu) {
    ports::clear(&vcpu.ports, port.0);
    HANDLERS[port.0 as usize].store(core::ptr::null_mut(), Release);
}

/// Events of ports without a handler so far.
pub fn strays() -> u64 {
    STRAY.load(Relaxed)
}

/// Called by the entry code, with events masked.
pub(super) fn upcall(_frame: &mut TrapFrame) {
    let cpu = this();
    cpu.upcalls.fetch_add(1, Relaxed);
    let (Some(record), Some(shared)) = (cpu.record(), shared()) else { return };
    // A trap in a handler is not the one that the interrupted code expects.
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

/// Nesting of event handlers on the running vCPU; 0 outside of handlers.
pub fn depth() -> u32 {
    this().depth.load(Relaxed)
}

/// Masks events on this vCPU. Returns whether they were unmasked before.
pub fn mask() -> bool {
    let Some(record) = this().record() else { return false };
    if in_container() {
        return cpu::disable_interrupts();
    }
    let open = record.upcall_mask.swap(1, Relaxed) == 0;
    compiler_fence(SeqCst);
    open
}

/// Whether events are unmasked on this vCPU.
pub fn is_open() -> bool {
    let open = |record: &VcpuRecord| match in_container() {
        true => cpu::interrupts_enabled(),
        false => record.upcall_mask.load(Relaxed) == 0,
    };
    this().record().is_some_and(open)
}

/// Unmasks events on this vCPU. One that became pending while they were masked is delivered before
/// this returns. In ring 3 the hypervisor raised no upcall for it, so it must be looked for. That is
/// done after the mask is cleared, since an event that comes in between would be missed otherwise.
pub fn unmask() {
    let Some(record) = this().record() else { return };
    if in_container() {
        return cpu::enable_interrupts();
    }
    record.upcall_mask.store(0, SeqCst);
    if record.upcall_pending.load(SeqCst) != 0 {
        deliver_now();
    }
}

/// Makes the hypervisor deliver pending events, as it does before it returns from any call.
pub fn deliver_now() {
    // The result does not matter.
    let _ = version::version();
}

/// Runs a function with events masked.
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

/// Unmasks a port. An event that it got meanwhile is delivered.
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

/// Clears a port's pending bit and returns whether it was set. For ports that are masked and
/// polled.
pub fn clear_pending(port: Port) -> bool {
    shared().is_some_and(|shared| ports::clear(&shared.pending, port.0))
}

/// Moves the running vCPU's record to another page, as a guest must that has more vCPUs than the
/// shared page has records.
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
