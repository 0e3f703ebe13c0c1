//! A vCPU's slot: what others may know of a vCPU, and where its state is.
//!
//! The state itself ([`Vcpu`]) belongs to one holder at a time: the processor that runs it, the
//! run queue, or the slot, while it waits or is down. Everyone else meets the slot.

use super::alias_search::Pending;
use super::runstate::{Runstate, State};
use super::scheduler::{self, EnqueueReason};
use super::shared_page::SharedPage;
use super::vcpu::{RunState, Vcpu, VcpuMemory};
use super::vcpu_info::InfoRef;
use super::vcpu_timers::Timers;
use crate::arch::ipi;
use crate::memory::frame_refs::WritableRef;
use crate::sync::Mutex;
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use pinfold_validator::{CpuSet, ExternalRef};

/// Where a vCPU's state is.
pub enum VcpuState {
    /// There is none: never initialised, or its domain is at its end.
    Uninitialised,
    /// Here: it isn't up.
    Offline(Box<Vcpu>),
    /// Here: it waits for an event or a time.
    Blocked(Box<Vcpu>),
    /// In the run queue.
    Runnable,
    /// On this processor.
    Running(usize),
}

/// A slot.
pub struct VcpuSlot {
    /// The vCPU's number in the domain.
    pub id: u16,
    /// Where its state is.
    pub state: Mutex<VcpuState>,
    /// Its timers.
    pub timers: Timers,
    /// What it did with its time, and where the guest wants to read it.
    pub runstate: Mutex<Runstate>,
    /// Reports about it whose mappings are still to be found.
    pub reports: Pending,
    /// Its record, as bits of an [`InfoRef`].
    info: AtomicU64,
    /// Frame of the record, if the guest registered one.
    info_frame: Mutex<Option<WritableRef>>,
    /// Somebody wants it down.
    down_wanted: AtomicBool,
    /// A non-maskable interrupt was sent and not delivered.
    nmi: AtomicBool,
    /// Memory for its state; none while somebody initialises it, and ever after.
    memory: Mutex<Option<VcpuMemory>>,
    /// Its state, wherever it is, for the audit.
    vcpu: AtomicPtr<Vcpu>,
}

impl VcpuSlot {
    /// The slot of a vCPU without a state, but with memory for it.
    pub fn new(id: u16, shared_page: SharedPage) -> VcpuSlot {
        VcpuSlot {
            id,
            state: Mutex::new(VcpuState::Uninitialised),
            timers: Timers::default(),
            runstate: Mutex::default(),
            reports: Pending::default(),
            info: AtomicU64::new(InfoRef::legacy(shared_page, id).to_bits()),
            info_frame: Mutex::new(None),
            down_wanted: AtomicBool::new(false),
            nmi: AtomicBool::new(false),
            memory: Mutex::new(Some(VcpuMemory::new())),
            vcpu: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// Whether the vCPU is on this processor; `false` also if somebody is changing where it is.
    pub fn is_on(&self, cpu: usize) -> bool {
        self.state
            .try_lock()
            .is_some_and(|state| matches!(*state, VcpuState::Running(on) if on == cpu))
    }

    /// The vCPU's record.
    pub fn info(&self) -> InfoRef {
        // SAFETY: only `new` and `register_info` store there, bits of references. Acquire: the
        // copy that was made before is seen.
        unsafe { InfoRef::from_bits(self.info.load(Ordering::Acquire)) }
    }

    /// Moves the record into a frame of the guest's. False if it was moved before.
    pub fn register_info(&self, frame: WritableRef, offset: usize) -> bool {
        let mut registered = self.info_frame.lock();
        if registered.is_some() {
            return false;
        }
        // SAFETY: the slot keeps the reference until its vCPU runs no more (`forget_info`).
        let new = unsafe { InfoRef::registered(&frame, offset) };
        self.info().copy_to(new);
        self.info.store(new.to_bits(), Ordering::Release);
        *registered = Some(frame);
        // What was raised at the old place meanwhile is not lost: the guest looks at all words.
        new.pending_selector().store(u64::MAX, Ordering::SeqCst);
        new.upcall_pending().store(1, Ordering::SeqCst);
        true
    }

    /// The reference on a registered record's frame, as the audit counts it.
    pub fn info_ref(&self) -> Option<ExternalRef> {
        self.info_frame.lock().as_ref().and_then(WritableRef::external)
    }

    /// Forgets a registered record. The vCPU runs no more.
    pub fn forget_info(&self, shared_page: SharedPage) {
        self.info.store(InfoRef::legacy(shared_page, self.id).to_bits(), Ordering::Release);
        drop(self.info_frame.lock().take());
    }

    /// Remembers where the state is, for the audit.
    pub fn set_vcpu(&self, vcpu: Option<&mut Vcpu>) {
        let state = vcpu.map_or(core::ptr::null_mut(), |vcpu| vcpu as *mut Vcpu);
        self.vcpu.store(state, Ordering::Release);
    }

    /// Looks at the state, wherever it is.
    ///
    /// # Safety
    /// No processor changes it meanwhile: all others pause, and the caller doesn't hold it.
    pub unsafe fn with_vcpu<T>(&self, look: impl FnOnce(&Vcpu) -> T) -> Option<T> {
        // SAFETY: the state is boxed, so it stays in place until it is dropped, before which
        // `set_vcpu(None)` is called.
        unsafe { self.vcpu.load(Ordering::Acquire).as_ref() }.map(look)
    }

    /// Claims the right to give the vCPU its first state, which is the memory for it; `None` if
    /// somebody did.
    pub fn claim(&self) -> Option<VcpuMemory> {
        self.memory.lock().take()
    }

    /// Gives the right back.
    pub fn unclaim(&self, memory: VcpuMemory) {
        *self.memory.lock() = Some(memory);
    }

    /// Whether the vCPU may run.
    pub fn is_up(&self) -> bool {
        let state = self.state.lock();
        let comes_down = self.down_wanted.load(Ordering::Relaxed);
        !matches!(*state, VcpuState::Uninitialised | VcpuState::Offline(_)) && !comes_down
    }

    /// Takes a vCPU's first state: it is down. It is in the memory that was claimed.
    pub fn initialise(&self, mut vcpu: Box<Vcpu>) {
        self.set_vcpu(Some(&mut vcpu));
        self.runstate.lock().enter(State::Offline);
        *self.state.lock() = VcpuState::Offline(vcpu);
    }

    /// Lets a vCPU run. False if it has no state.
    pub fn bring_up(&self) -> bool {
        let mut state = self.state.lock();
        self.down_wanted.store(false, Ordering::Relaxed);
        match core::mem::replace(&mut *state, VcpuState::Runnable) {
            VcpuState::Offline(vcpu) => self.enqueue(vcpu, EnqueueReason::Wakeup),
            VcpuState::Uninitialised => {
                *state = VcpuState::Uninitialised;
                return false;
            }
            other => *state = other,
        }
        true
    }

    /// Lets a vCPU run no more, as soon as may be.
    pub fn bring_down(&self) {
        let mut state = self.state.lock();
        match core::mem::replace(&mut *state, VcpuState::Runnable) {
            VcpuState::Blocked(mut vcpu) => {
                vcpu.stop_waiting();
                self.runstate.lock().enter(State::Offline);
                *state = VcpuState::Offline(vcpu);
            }
            other @ (VcpuState::Uninitialised | VcpuState::Offline(_)) => *state = other,
            other @ (VcpuState::Runnable | VcpuState::Running(_)) => {
                self.down_wanted.store(true, Ordering::Relaxed);
                if let VcpuState::Running(cpu) = other {
                    ipi::kick(cpu);
                }
                *state = other;
            }
        }
    }

    /// Whether the vCPU is to stop running.
    #[inline]
    pub fn is_down_wanted(&self) -> bool {
        self.down_wanted.load(Ordering::Relaxed)
    }

    /// Sends a non-maskable interrupt: several that weren't delivered count as one.
    pub fn send_nmi(&self) {
        // SeqCst: set before the look at where the vCPU is.
        self.nmi.store(true, Ordering::SeqCst);
        self.kick();
    }

    /// Whether a non-maskable interrupt waits.
    pub fn has_nmi(&self) -> bool {
        self.nmi.load(Ordering::SeqCst)
    }

    /// Takes a non-maskable interrupt for delivery.
    pub fn take_nmi(&self) -> bool {
        self.nmi.swap(false, Ordering::SeqCst)
    }

    /// Something changed for this vCPU: wakes it, if it waited for that, or interrupts its guest,
    /// so that it is seen.
    pub fn kick(&self) {
        let mut state = self.state.lock();
        match &*state {
            VcpuState::Running(cpu) => ipi::kick(*cpu),
            VcpuState::Blocked(vcpu) if vcpu.may_go_on() => self.wake(&mut state),
            _ => {}
        }
    }

    /// As [`VcpuSlot::kick`], if the vCPU polls.
    pub fn kick_poller(&self) {
        let mut state = self.state.lock();
        if let VcpuState::Blocked(vcpu) = &*state
            && matches!(vcpu.state, RunState::Polling(_))
            && vcpu.may_go_on()
        {
            self.wake(&mut state);
        }
    }

    /// Wakes the vCPU whatever it waits for, or has it look up: its domain ends.
    pub fn force_wake(&self) {
        let mut state = self.state.lock();
        match &*state {
            VcpuState::Running(cpu) => ipi::kick(*cpu),
            VcpuState::Blocked(_) | VcpuState::Offline(_) => self.wake(&mut state),
            _ => {}
        }
    }

    fn wake(&self, state: &mut VcpuState) {
        match core::mem::replace(state, VcpuState::Runnable) {
            VcpuState::Blocked(vcpu) | VcpuState::Offline(vcpu) => {
                self.enqueue(vcpu, EnqueueReason::Wakeup)
            }
            other => *state = other,
        }
    }

    fn enqueue(&self, mut vcpu: Box<Vcpu>, reason: EnqueueReason) {
        vcpu.stop_waiting();
        self.runstate.lock().enter(State::Runnable);
        scheduler::enqueue(vcpu, reason);
    }

    /// A processor took the vCPU from the run queue.
    pub fn sched_in(&self, cpu: usize) {
        *self.state.lock() = VcpuState::Running(cpu);
        self.runstate.lock().enter(State::Running);
    }

    /// The processor that ran the vCPU gives it back: to the run queue, or to its slot. True if it
    /// is down now.
    pub fn sched_out(&self, mut vcpu: Box<Vcpu>) -> bool {
        let mut state = self.state.lock();
        if self.down_wanted.swap(false, Ordering::Relaxed) {
            vcpu.stop_waiting();
            self.runstate.lock().enter(State::Offline);
            *state = VcpuState::Offline(vcpu);
            return true;
        } else if vcpu.state != RunState::Runnable && !vcpu.may_go_on() {
            self.runstate.lock().enter(State::Blocked);
            *state = VcpuState::Blocked(vcpu);
        } else {
            *state = VcpuState::Runnable;
            self.enqueue(vcpu, EnqueueReason::SliceExpired);
        }
        false
    }

    /// The vCPU's state is gone.
    pub fn leave(&self) {
        *self.state.lock() = VcpuState::Uninitialised;
    }

    /// Processor that runs the vCPU now, if one does.
    pub fn runs_on(&self) -> CpuSet {
        match *self.state.lock() {
            VcpuState::Running(cpu) => CpuSet::of(cpu),
            _ => CpuSet::EMPTY,
        }
    }
}
