//! The state of a vCPU.
#![expect(unsafe_code, reason = "the memory of a vCPU is used again for the next one")]

use super::alias_search::FindProgress;
use super::alias_upcall::Upcall;
use super::vcpu_info::InfoRef;
use super::work::Work;
use super::{DomainRef, VcpuSlot};
use crate::arch::container::Guest;
use crate::arch::entry::RegisterFile;
use crate::arch::fpu::FpuState;
use crate::memory::frame_refs::{DescriptorRef, RootRef};
use crate::time::clock;
use alloc::boxed::Box;
use arrayvec::ArrayVec;
use core::mem::MaybeUninit;
use core::sync::atomic::Ordering;
use pinfold_abi::hypercall::CallInstruction;
use pinfold_abi::layout::{FIRST_RESERVED_GDT_PAGE, FLAT_RING3_SS64};
use pinfold_abi::mmu::VMASST_TYPE_RUNSTATE_UPDATE_FLAG;
use pinfold_abi::record::Who;
use pinfold_emulate::control::CR4_INITIAL;
use pinfold_emulate::debug::DebugRegisters;

/// The guest's privilege level. Both run in ring 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Guest kernel, on the kernel root.
    Kernel,
    /// Guest user, on the user root.
    User,
}

impl Mode {
    /// Name for reports.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Kernel => "kernel",
            Mode::User => "user",
        }
    }
}

/// The handler of an exception or event.
#[derive(Clone, Copy, Debug, Default)]
pub struct Handler {
    /// Address; 0: none.
    pub address: u64,
    /// Lowest privilege that may raise it by `int`: 0 nobody, 1 and 2 kernel, 3 all.
    pub dpl: u8,
    /// Events are masked on entry.
    pub masks_events: bool,
}

/// The callbacks that aren't exceptions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Callbacks {
    pub event: Handler,
    pub failsafe: Handler,
    pub syscall: Handler,
    pub syscall32: Handler,
    pub sysenter: Handler,
    pub nmi: Handler,
}

/// Ports of one poll at most, as on Xen.
pub const MAX_POLL_PORTS: usize = 128;

/// The ports of a poll.
pub type PollPorts = ArrayVec<u16, MAX_POLL_PORTS>;

/// Pages of an LDT.
pub const LDT_PAGES: usize = 16;

/// Arguments of a hypercall as they stand in rdi, rsi, rdx, r10, r8.
pub type Args = [u64; 5];

/// What a vCPU waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunState {
    /// Nothing: it can run.
    Runnable,
    /// An event.
    Blocked,
    /// An event, one of the ports in [`Vcpu::polled`], or this system time in ns, if any.
    Polling(Option<u64>),
}

/// A vCPU's state.
pub struct Vcpu {
    /// Registers, where the entry and exit code loads and saves them.
    pub file: RegisterFile,
    /// The domain.
    pub domain: DomainRef,
    /// Number in the domain.
    pub id: u16,
    /// Kernel or user.
    pub mode: Mode,
    /// The CPU on which it ran last.
    pub last_cpu: usize,
    /// What it waits for.
    state: RunState,
    /// L4 of the guest kernel.
    pub kernel_root: RootRef,
    /// L4 of the guest's user mode, if set.
    pub user_root: Option<RootRef>,
    /// FS base while not loaded.
    pub fs_base: u64,
    /// Live GS base while not loaded.
    pub gs_base: u64,
    /// GS base of the other mode, kernel or user.
    pub inactive_gs_base: u64,
    /// Stack for entries from user mode: ss, rsp.
    pub kernel_stack: (u16, u64),
    /// Exception handlers.
    pub traps: [Handler; 256],
    /// Other handlers.
    pub callbacks: Callbacks,
    /// The guest's CR0.TS.
    pub task_switched: bool,
    /// The guest's view of CR4.
    pub cr4: u64,
    /// Debug registers as the guest set them.
    pub debug: DebugRegisters,
    /// GDT frames.
    pub gdt: ArrayVec<DescriptorRef, FIRST_RESERVED_GDT_PAGE>,
    /// GDT entries.
    pub gdt_entries: u32,
    /// LDT: linear base and entries.
    pub ldt: (u64, u32),
    /// LDT pages mapped so far, by page.
    pub ldt_pages: [Option<DescriptorRef>; LDT_PAGES],
    /// Its `vcpu_info`, as of when it was loaded.
    pub info: InfoRef,
    /// Ports that it polls.
    polled: PollPorts,
    /// Its alias upcall.
    pub upcall: Upcall,
    /// Arguments with which a preempted hypercall is restarted.
    pub resume: Args,
    /// Work that the hypervisor did for it since the last check of the time.
    pub work: Work,
    /// Roots that a preempted `vcpu_op` initialise of this vCPU holds for the new one.
    pub held_roots: ArrayVec<RootRef, 2>,
    /// The search of a preempted `find_aliases`.
    pub find: Option<FindProgress>,
    /// FPU state while not loaded.
    pub fpu: FpuState,
    /// Address of the last page fault, for reports.
    pub last_fault_address: u64,
    /// The hardware container that it runs in, if any.
    pub container: Option<Guest>,
}

/// Memory for a vCPU's state, allocated when the domain is built: a guest may initialise its vCPUs at
/// any time, and that must not fail for lack of memory.
pub struct VcpuMemory(Box<MaybeUninit<Vcpu>>);

impl VcpuMemory {
    /// Allocates memory for one vCPU.
    pub fn new() -> VcpuMemory {
        VcpuMemory(Box::new_uninit())
    }

    /// Drops a vCPU and returns its memory.
    pub fn recycle(mut vcpu: Box<Vcpu>) -> VcpuMemory {
        if let Some(guest) = vcpu.container.take() {
            vcpu.domain.control_blocks.put_back(vcpu.id, guest);
        }
        let vcpu = Box::into_raw(vcpu);
        // SAFETY: the vCPU came out of its box and is dropped this once. Its memory, which is the
        // heap's still, goes back into a box for the same layout whose bytes may be anything.
        unsafe {
            vcpu.drop_in_place();
            VcpuMemory(Box::from_raw(vcpu.cast()))
        }
    }
}

impl Vcpu {
    /// A vCPU in kernel mode on `root`; all else as at reset.
    pub fn new(memory: VcpuMemory, domain: DomainRef, id: u16, root: RootRef) -> Box<Vcpu> {
        let info = domain.slots[usize::from(id)].info();
        let mut container = domain.control_blocks.take(id);
        if let Some(guest) = &mut container {
            guest.set_root(root.frame().address());
        }
        let vcpu = Vcpu {
            file: RegisterFile::new(),
            domain,
            id,
            mode: Mode::Kernel,
            last_cpu: 0,
            state: RunState::Runnable,
            kernel_root: root,
            user_root: None,
            fs_base: 0,
            gs_base: 0,
            inactive_gs_base: 0,
            kernel_stack: (FLAT_RING3_SS64, 0),
            traps: [Handler::default(); 256],
            callbacks: Callbacks::default(),
            task_switched: false,
            cr4: CR4_INITIAL,
            debug: DebugRegisters::default(),
            gdt: ArrayVec::new(),
            gdt_entries: 0,
            ldt: (0, 0),
            ldt_pages: [const { None }; LDT_PAGES],
            info,
            polled: ArrayVec::new(),
            upcall: Upcall::default(),
            resume: [0; 5],
            work: Work::default(),
            held_roots: ArrayVec::new(),
            find: None,
            fpu: FpuState::new(),
            last_fault_address: 0,
            container,
        };
        Box::write(memory.0, vcpu)
    }

    /// Writes the copy of the runstate that the guest registered.
    pub fn publish_runstate(&self) {
        let announced = self.domain.assists.is_enabled(VMASST_TYPE_RUNSTATE_UPDATE_FLAG);
        self.slot().runstate.lock().publish(self.domain.id, self.kernel_root.frame(), announced);
    }

    /// The vCPU's slot in its domain.
    pub fn slot(&self) -> &VcpuSlot {
        &self.domain.slots[usize::from(self.id)]
    }

    /// Blocks the vCPU until an event is pending.
    pub fn block(&mut self) {
        self.state = RunState::Blocked;
    }

    /// Blocks the vCPU until an event is pending, one of these ports is, or a system time in ns, if
    /// any, is over.
    pub fn start_polling(&mut self, ports: PollPorts, deadline: Option<u64>) {
        self.domain.add_poller();
        self.polled = ports;
        self.state = RunState::Polling(deadline);
    }

    /// Whether the vCPU waits for something.
    #[inline]
    pub fn is_waiting(&self) -> bool {
        self.state != RunState::Runnable
    }

    /// Whether it polls ports.
    pub fn is_polling(&self) -> bool {
        matches!(self.state, RunState::Polling(_))
    }

    /// Makes the vCPU runnable, whatever it waits for.
    pub fn stop_waiting(&mut self) {
        if let RunState::Polling(_) = self.state {
            self.domain.remove_poller();
            self.polled.clear();
        }
        self.state = RunState::Runnable;
    }

    /// Whether what the vCPU waits for has happened.
    pub fn is_wakeup_due(&self) -> bool {
        let info = self.slot().info();
        // SeqCst: whoever raises an event sets these first and looks for blocked vCPUs afterwards.
        let pending = info.upcall_pending().load(Ordering::SeqCst) != 0;
        if self.slot().has_nmi() {
            return true;
        }
        match self.state {
            RunState::Runnable => true,
            RunState::Blocked => pending,
            RunState::Polling(deadline) => {
                let shared = self.domain.shared_page;
                pending && info.upcall_mask().load(Ordering::SeqCst) == 0
                    || deadline.is_some_and(|at| at <= clock::now_ns())
                    || self.polled.iter().any(|&port| shared.is_pending(port.into()))
            }
        }
    }

    /// The subject of its log records.
    pub fn who(&self) -> Who {
        Who::Vcpu(self.domain.id.get(), self.id)
    }

    /// The instruction by which its guest makes hypercalls.
    pub fn call_instruction(&self) -> CallInstruction {
        if self.container.is_some() { CallInstruction::Vmmcall } else { CallInstruction::Syscall }
    }

    /// The root of the current mode.
    pub fn root(&self) -> &RootRef {
        match (self.mode, &self.user_root) {
            (Mode::User, Some(root)) => root,
            _ => &self.kernel_root,
        }
    }
}
