//! A vCPU's slot in its domain: the part of a vCPU that other CPUs may access.
//!
//! The vCPU's state ([`Vcpu`]) has one owner at a time: the CPU that runs it, the run queue, or the
//! slot, while it is blocked or offline. Everybody else uses the slot.
#![expect(unsafe_code, reason = "hands the one state of a vCPU to one holder at a time")]

use super::alias_search::Pending;
use super::runstate::{Runstate, State};
use super::scheduler::{self, EnqueueReason};
use super::shared_page::SharedPage;
use super::vcpu::{Vcpu, VcpuMemory};
use super::vcpu_info::InfoRef;
use super::vcpu_timers::Timers;
use crate::arch::ipi;
use crate::memory::frame_refs::WritableRef;
use crate::sync::Mutex;
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, Ordering};
use pinfold_validator::{CpuSet, ExternalRef};

/// What a vCPU is doing, and who owns its state.
pub enum VcpuState {
    /// It has no state: never initialised, or destroyed with its domain.
    Uninitialised,
    /// Offline; the slot owns the state.
    Offline(Box<Vcpu>),
    /// Blocked on an event or a timeout; the slot owns the state.
    Blocked(Box<Vcpu>),
    /// Runnable; the run queue owns the state.
    Runnable,
    /// Running on this CPU, which owns the state.
    Running(usize),
}

/// A vCPU's slot.
pub struct VcpuSlot {
    /// The vCPU's number in the domain.
    pub id: u16,
    /// What it is doing.
    pub state: Mutex<VcpuState>,
    /// Its timers.
    pub timers: Timers,
    /// How it spent its time, and where the guest reads that.
    pub runstate: Mutex<Runstate>,
    /// Reports of the vCPU whose searches are unfinished.
    pub reports: Pending,
    /// Its `vcpu_info`, as bits of an [`InfoRef`].
    info: AtomicU64,
    /// Frame of the `vcpu_info`, if the guest registered one.
    info_frame: Mutex<Option<WritableRef>>,
    /// It is to go offline at its next exit.
    down_wanted: AtomicBool,
    /// An NMI is pending.
    nmi: AtomicBool,
    /// Vector of its event upcall in a hardware container; 0: none.
    upcall_vector: AtomicU8,
    /// Memory for its state, until the vCPU is initialised.
    memory: Mutex<Option<VcpuMemory>>,
    /// Its state, whoever owns it, for the audit.
    vcpu: AtomicPtr<Vcpu>,
}

impl VcpuSlot {
    /// The slot of a vCPU that is not initialised, with memory for its state.
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
            upcall_vector: AtomicU8::new(0),
            memory: Mutex::new(Some(VcpuMemory::new())),
            vcpu: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// Whether the vCPU runs on a CPU; `false` also while its state is changing.
    pub fn is_on(&self, cpu: usize) -> bool {
        self.state
            .try_lock()
            .is_some_and(|state| matches!(*state, VcpuState::Running(on) if on == cpu))
    }

    /// The vCPU's `vcpu_info`.
    pub fn info(&self) -> InfoRef {
        // SAFETY: only `new` and `register_info` store there, bits of references. Acquire: the
        // copy that was made before is seen.
        unsafe { InfoRef::from_bits(self.info.load(Ordering::Acquire)) }
    }

    /// Moves the `vcpu_info` into a frame of the guest's. False if it was moved before.
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
        // Events raised at the old place meanwhile are not lost: the guest scans all words.
        new.pending_selector().store(u64::MAX, Ordering::SeqCst);
        new.upcall_pending().store(1, Ordering::SeqCst);
        true
    }

    /// The reference on a registered frame, as the audit counts it.
    pub fn info_ref(&self) -> Option<ExternalRef> {
        self.info_frame.lock().as_ref().and_then(WritableRef::external)
    }

    /// Unregisters the `vcpu_info`. The vCPU won't run again.
    pub fn forget_info(&self, shared_page: SharedPage) {
        self.info.store(InfoRef::legacy(shared_page, self.id).to_bits(), Ordering::Release);
        drop(self.info_frame.lock().take());
    }

    /// Records where the state is, for the audit.
    pub fn set_vcpu(&self, vcpu: Option<&mut Vcpu>) {
        let state = vcpu.map_or(core::ptr::null_mut(), core::ptr::from_mut);
        self.vcpu.store(state, Ordering::Release);
    }

    /// Reads the state, whoever owns it.
    ///
    /// # Safety
    /// Nobody changes it meanwhile: the machine is stopped, and the caller doesn't own it.
    pub unsafe fn with_vcpu<T>(&self, look: impl FnOnce(&Vcpu) -> T) -> Option<T> {
        // SAFETY: the state is boxed, so it stays in place until it is dropped, before which
        // `set_vcpu(None)` is called.
        unsafe { self.vcpu.load(Ordering::Acquire).as_ref() }.map(look)
    }

    /// Takes the memory for the vCPU's state, and with it the right to initialise it; `None` if it was
    /// taken before.
    pub fn take_memory(&self) -> Option<VcpuMemory> {
        self.memory.lock().take()
    }

    /// Returns the memory.
    pub fn return_memory(&self, memory: VcpuMemory) {
        *self.memory.lock() = Some(memory);
    }

    /// Whether the vCPU is online.
    pub fn is_up(&self) -> bool {
        let state = self.state.lock();
        let comes_down = self.down_wanted.load(Ordering::Relaxed);
        !matches!(*state, VcpuState::Uninitialised | VcpuState::Offline(_)) && !comes_down
    }

    /// Stores a vCPU's first state, in the memory that was taken. The vCPU is offline.
    pub fn initialise(&self, mut vcpu: Box<Vcpu>) {
        self.set_vcpu(Some(&mut vcpu));
        self.runstate.lock().enter(State::Offline);
        *self.state.lock() = VcpuState::Offline(vcpu);
    }

    /// Brings a vCPU online. False if it isn't initialised.
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

    /// Takes a vCPU offline, if it runs at its next exit.
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

    /// Whether the vCPU is to go offline.
    #[inline]
    pub fn is_down_wanted(&self) -> bool {
        self.down_wanted.load(Ordering::Relaxed)
    }

    /// Sends an NMI; several that are pending count as one.
    pub fn send_nmi(&self) {
        // SeqCst: set before the vCPU's state is read.
        self.nmi.store(true, Ordering::SeqCst);
        self.kick();
    }

    /// Sets the vector of the event upcall in a hardware container. A vCPU that runs has it at its next
    /// exit.
    pub fn set_upcall_vector(&self, vector: u8) {
        self.upcall_vector.store(vector, Ordering::Relaxed);
    }

    /// The vector of the event upcall, if the guest has set it.
    #[inline]
    pub fn upcall_vector(&self) -> Option<u8> {
        let vector = self.upcall_vector.load(Ordering::Relaxed);
        (vector != 0).then_some(vector)
    }

    /// Whether an NMI is pending.
    pub fn has_nmi(&self) -> bool {
        self.nmi.load(Ordering::SeqCst)
    }

    /// Takes a pending NMI for delivery.
    pub fn take_nmi(&self) -> bool {
        self.nmi.swap(false, Ordering::SeqCst)
    }

    /// Makes the vCPU notice a change: wakes it if it was blocked on that, or interrupts its guest.
    pub fn kick(&self) {
        let mut state = self.state.lock();
        match &*state {
            VcpuState::Running(cpu) => ipi::kick(*cpu),
            VcpuState::Blocked(vcpu) if vcpu.is_wakeup_due() => self.wake(&mut state),
            _ => {}
        }
    }

    /// As [`VcpuSlot::kick`], if the vCPU polls.
    pub fn kick_poller(&self) {
        let mut state = self.state.lock();
        if let VcpuState::Blocked(vcpu) = &*state
            && vcpu.is_polling()
            && vcpu.is_wakeup_due()
        {
            self.wake(&mut state);
        }
    }

    /// Wakes the vCPU whatever it waits for, or interrupts its guest: its domain ends.
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
                self.enqueue(vcpu, EnqueueReason::Wakeup);
            }
            other => *state = other,
        }
    }

    fn enqueue(&self, mut vcpu: Box<Vcpu>, reason: EnqueueReason) {
        vcpu.stop_waiting();
        self.runstate.lock().enter(State::Runnable);
        scheduler::enqueue(vcpu, reason);
    }

    /// A CPU took the vCPU from the run queue and runs it.
    pub fn sched_in(&self, cpu: usize) {
        *self.state.lock() = VcpuState::Running(cpu);
        self.runstate.lock().enter(State::Running);
    }

    /// The CPU that ran the vCPU returns it, to the run queue or to its slot. True if it is offline
    /// now.
    pub fn sched_out(&self, mut vcpu: Box<Vcpu>) -> bool {
        let mut state = self.state.lock();
        if self.down_wanted.swap(false, Ordering::Relaxed) {
            vcpu.stop_waiting();
            self.runstate.lock().enter(State::Offline);
            *state = VcpuState::Offline(vcpu);
            return true;
        } else if vcpu.is_waiting() && !vcpu.is_wakeup_due() {
            self.runstate.lock().enter(State::Blocked);
            *state = VcpuState::Blocked(vcpu);
        } else {
            *state = VcpuState::Runnable;
            self.enqueue(vcpu, EnqueueReason::SliceExpired);
        }
        false
    }

    /// The vCPU's state is about to be destroyed.
    pub fn leave(&self) {
        *self.state.lock() = VcpuState::Uninitialised;
    }

    /// The CPU that runs the vCPU now, if one does.
    pub fn runs_on(&self) -> CpuSet {
        match *self.state.lock() {
            VcpuState::Running(cpu) => CpuSet::of(cpu),
            _ => CpuSet::EMPTY,
        }
    }
}
