//! A vCPU in a hardware container: its VMCB, and what is to be raised in it.

use super::vmcb::{self, Segment, Vmcb, misc1};
use super::{exit_code, world};
use crate::arch::container::{Event, Exit, Instruction};
use crate::arch::entry::RegisterFile;
use crate::arch::percpu;
use crate::arch::vector;
use pinfold_abi::hypercall::CallInstruction;
use pinfold_abi::layout::PAGE_SIZE;
use pinfold_abi::vcpu::CpuUserRegs;
use pinfold_core::asid::VcpuAsid;
use pinfold_emulate::SegmentBases;
use pinfold_emulate::container::{CR0_INITIAL, CR4_INITIAL, EFER_INITIAL};
use pinfold_emulate::debug::{DR6_ONES, DR7_ONES};

/// The selector of CS at the start, with RPL 0. It names no descriptor, as there is no GDT.
pub const START_CS: u16 = 8;

/// Types of events in the VMCB (AMD APM vol. 2, 15.20).
const TYPE_NMI: u64 = 2;
const TYPE_EXCEPTION: u64 = 3;

/// Page faults and those exceptions that make a double fault of a second one (APM vol. 2, 8.2.9).
const fn is_contributory(number: u8) -> bool {
    matches!(number, 0 | 10..=13)
}

/// Physical addresses that each VMCB refers to.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    /// The map of ports.
    pub ports: u64,
    /// The map of MSRs.
    pub msrs: u64,
    /// An exit says where the next instruction begins.
    pub has_next_rip: bool,
}

/// Whether NMIs are blocked. A processor blocks them from the delivery of one to the next `iret`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NmiState {
    /// They aren't.
    Open,
    /// One was raised, and its handler has not returned.
    InHandler,
    /// The `iret` at this address is executed next. Before that, another one would use the same stack.
    Returning(u64),
}

/// A vCPU in a hardware container.
pub struct Guest {
    vmcb: &'static mut Vmcb,
    physical: u64,
    asid: VcpuAsid,
    /// What the next entry raises.
    event: Option<Event>,
    /// Whether NMIs are blocked.
    nmis: NmiState,
    has_next_rip: bool,
    /// Address of the last hypercall that was made without prefixes.
    plain_call: u64,
}

impl Guest {
    /// A vCPU in its first state, without a root.
    ///
    /// # Safety
    /// `vmcb` is at `physical`, and nobody else uses it.
    pub unsafe fn new(vmcb: &'static mut Vmcb, physical: u64, shared: Shared) -> Guest {
        vmcb.clear();
        let control = &mut vmcb.control;
        // The other control registers can be read.
        control.intercept_cr_reads = !0b1_1101;
        control.intercept_cr_writes = !(1 << 2);
        control.intercept_dr_reads = u16::MAX;
        control.intercept_dr_writes = u16::MAX;
        control.intercept_misc1 = misc1::INTR
            | misc1::NMI
            | misc1::INIT
            | misc1::RDPMC
            | misc1::CPUID
            | misc1::RSM
            | misc1::INVD
            | misc1::HLT
            | misc1::INVLPGA
            | misc1::IOIO
            | misc1::MSR
            | misc1::TASK_SWITCH
            | misc1::SHUTDOWN;
        control.intercept_misc2 = vmcb::MISC2;
        control.intercept_misc3 = vmcb::MISC3;
        control.iopm_base = shared.ports;
        control.msrpm_base = shared.msrs;
        let state = &mut vmcb.state;
        state.cs = Segment::kernel_code(START_CS);
        for segment in [&mut state.ss, &mut state.ds, &mut state.es, &mut state.fs, &mut state.gs] {
            *segment = Segment::kernel_data(0);
        }
        state.gdtr = Segment::none();
        state.idtr = Segment::none();
        state.ldtr = Segment::none();
        state.tr = Segment::empty_tss();
        state.cr0 = CR0_INITIAL;
        state.cr4 = CR4_INITIAL;
        state.efer = EFER_INITIAL | vmcb::EFER_SVME;
        state.dr6 = DR6_ONES;
        state.dr7 = DR7_ONES;
        let mut guest = Guest {
            vmcb,
            physical,
            asid: VcpuAsid::default(),
            event: None,
            nmis: NmiState::Open,
            has_next_rip: shared.has_next_rip,
            plain_call: 0,
        };
        guest.intercept_page_faults(false);
        guest
    }

    /// Physical address of the control block.
    pub fn physical(&self) -> u64 {
        self.physical
    }

    /// Runs the guest until it exits: see [`Guest::made_hypercall`] and [`Guest::exit_reason`].
    ///
    /// # Safety
    /// The root of the last [`Guest::set_root`] is a validated one of the guest's, which stays one until
    /// this returns; [`world::save_host`] saved to [`percpu::PerCpu::host_area`] on this CPU.
    #[inline]
    pub unsafe fn run(&mut self, file: &mut RegisterFile) {
        let cpu = percpu::this();
        let assigned = cpu.assign_asid(&mut self.asid);
        let control = &mut self.vmcb.control;
        control.asid = assigned.asid;
        control.tlb_control = if assigned.flush_all_asids { vmcb::TLB_FLUSH_ALL } else { 0 };
        control.event_injection = 0;
        if let Some(event) = self.event.take() {
            self.encode(event);
        }
        let state = &mut self.vmcb.state;
        let regs = &mut file.regs;
        state.rax = regs.rax;
        state.rip = regs.rip;
        state.rsp = regs.rsp;
        state.rflags = regs.rflags;
        // SAFETY: the VMCB is at this address, and only this vCPU's; the ASID was assigned just now,
        // with interrupts disabled since. The rest is the caller's promise.
        unsafe { world::run(regs, self.physical, cpu.host_area()) };
        let state = &self.vmcb.state;
        regs.rax = state.rax;
        regs.rip = state.rip;
        regs.rsp = state.rsp;
        regs.rflags = state.rflags;
        if assigned.flush_all_asids && self.vmcb.control.exit_code != exit_code::INVALID {
            cpu.record_guest_entry();
        }
        if self.vmcb.control.exit_interrupt_info & vmcb::EVENT_VALID != 0 {
            self.keep_interrupted_event();
        }
    }

    /// Copies the selectors of CS and SS to the register file.
    pub fn save_selectors(&self, regs: &mut CpuUserRegs) {
        regs.cs = self.vmcb.state.cs.selector;
        regs.ss = self.vmcb.state.ss.selector;
    }

    /// Whether the last exit is a hypercall of ring 0.
    #[inline]
    pub fn made_hypercall(&self) -> bool {
        self.vmcb.control.exit_code == exit_code::VMMCALL && self.is_kernel()
    }

    /// Why the guest exited.
    pub fn exit_reason(&self, regs: &mut CpuUserRegs) -> Exit {
        let control = &self.vmcb.control;
        let instruction = Exit::Instruction;
        match control.exit_code {
            exit_code::VMMCALL => Exit::UserHypercall,
            exit_code::INTR => Exit::Interrupt,
            exit_code::NMI | exit_code::INIT => Exit::Nothing,
            code @ exit_code::EXCEPTION..0x60 => {
                let number = (code - exit_code::EXCEPTION) as u8;
                regs.error_code = control.exit_info1 as u32;
                regs.vector = number.into();
                Exit::Exception(number, control.exit_info2)
            }
            exit_code::CPUID => instruction(Instruction::Cpuid),
            exit_code::MSR if control.exit_info1 & 1 == 0 => instruction(Instruction::ReadMsr),
            exit_code::MSR => instruction(Instruction::WriteMsr),
            exit_code::HLT => instruction(Instruction::Hlt),
            exit_code::WBINVD | exit_code::INVD => instruction(Instruction::Wbinvd),
            exit_code::ICEBP => instruction(Instruction::Int1),
            exit_code::READ_CR0..exit_code::WRITE_CR0
            | exit_code::WRITE_CR0..exit_code::READ_DR0
            | exit_code::READ_DR0..exit_code::WRITE_DR0
            | exit_code::WRITE_DR0..exit_code::EXCEPTION => instruction(Instruction::MovSpecial),
            exit_code::IRET => Exit::NmiDone,
            exit_code::IOIO | exit_code::RDPMC => Exit::Forbidden(vector::GENERAL_PROTECTION),
            exit_code::RSM
            | exit_code::INVLPGA
            | exit_code::VMRUN..=exit_code::SKINIT
            | exit_code::MONITOR..=exit_code::RDPRU
            | exit_code::INVLPGB..=exit_code::TLBSYNC => Exit::Forbidden(vector::INVALID_OPCODE),
            exit_code::TASK_SWITCH => Exit::Fatal("task switch in the container"),
            exit_code::SHUTDOWN => Exit::Fatal("triple fault in the container"),
            exit_code::INVALID => Exit::Fatal("the processor refuses the state of the container"),
            code => {
                log::error!("svm exit_code={code:#x} is not handled");
                Exit::Fatal("unknown exit of the container")
            }
        }
    }

    /// If the exit came while an event was being delivered, the event is raised again at the next
    /// entry. Not so software interrupts, whose instruction is executed again, and virtual interrupts,
    /// which stay pending ([`Guest::set_interrupt`]).
    fn keep_interrupted_event(&mut self) {
        let info = self.vmcb.control.exit_interrupt_info;
        let error = (info & vmcb::EVENT_HAS_ERROR != 0).then_some((info >> 32) as u32);
        self.event = match (info >> vmcb::EVENT_TYPE & 7, info as u8) {
            (TYPE_NMI, _) => Some(Event::Nmi),
            (TYPE_EXCEPTION, vector::BREAKPOINT | vector::OVERFLOW) => None,
            (TYPE_EXCEPTION, vector::PAGE_FAULT) => {
                Some(Event::PageFault { address: self.vmcb.state.cr2, error: error.unwrap_or(0) })
            }
            (TYPE_EXCEPTION, number) => Some(Event::Exception(number, error)),
            _ => None,
        };
    }

    /// Raises an event at the next entry. With an exception that could not be delivered it makes a
    /// double fault, or ends the guest.
    ///
    /// # Errors
    /// A triple fault.
    pub fn raise(&mut self, event: Event) -> Result<(), &'static str> {
        let number = |event: Event| match event {
            Event::Exception(number, _) => Some(number),
            Event::PageFault { .. } => Some(vector::PAGE_FAULT),
            Event::Nmi => None,
        };
        let before = self.event.and_then(number);
        let event = match (before, number(event)) {
            (Some(vector::DOUBLE_FAULT), Some(second))
                if is_contributory(second) || second == vector::PAGE_FAULT =>
            {
                return Err("triple fault in the container");
            }
            (Some(first), Some(second))
                if is_contributory(first) && is_contributory(second)
                    || first == vector::PAGE_FAULT
                        && (is_contributory(second) || second == vector::PAGE_FAULT) =>
            {
                Event::Exception(vector::DOUBLE_FAULT, Some(0))
            }
            _ => event,
        };
        self.event = Some(event);
        Ok(())
    }

    /// Whether an NMI can be raised now, at this rip.
    pub fn accepts_nmi(&mut self, rip: u64) -> bool {
        if let NmiState::Returning(iret) = self.nmis
            && iret != rip
        {
            self.nmis = NmiState::Open;
        }
        self.nmis == NmiState::Open && self.event.is_none()
    }

    /// Writes an event to the VMCB.
    fn encode(&mut self, event: Event) {
        let Vmcb { control, state } = &mut *self.vmcb;
        let (kind, number, error) = match event {
            Event::Exception(number, error) => (TYPE_EXCEPTION, number, error),
            Event::PageFault { address, error } => {
                state.cr2 = address;
                (TYPE_EXCEPTION, vector::PAGE_FAULT, Some(error))
            }
            Event::Nmi => {
                self.nmis = NmiState::InHandler;
                control.intercept_misc1 |= misc1::IRET;
                (TYPE_NMI, vector::NMI, None)
            }
        };
        let error = error.map_or(0, |code| vmcb::EVENT_HAS_ERROR | u64::from(code) << 32);
        control.event_injection =
            u64::from(number) | kind << vmcb::EVENT_TYPE | error | vmcb::EVENT_VALID;
    }

    /// The handler of an NMI is about to return, by the `iret` at rip: others can be raised at the first
    /// exit after that.
    pub fn end_nmi(&mut self, rip: u64) {
        self.nmis = NmiState::Returning(rip);
        self.vmcb.control.intercept_misc1 &= !misc1::IRET;
    }

    /// Sets the vector of a virtual interrupt that is pending, if one is. It is raised as soon as
    /// RFLAGS.IF allows it, without an exit.
    #[inline]
    pub fn set_interrupt(&mut self, vector: Option<u8>) {
        let masking = vmcb::V_INTR_MASKING | vmcb::V_IGN_TPR;
        self.vmcb.control.virtual_interrupt = match vector {
            Some(vector) => masking | vmcb::V_IRQ | u64::from(vector) << vmcb::V_INTR_VECTOR,
            None => masking,
        };
    }

    /// Moves rip past the instruction that exited, of `bytes` bytes if the processor doesn't say it.
    #[inline]
    pub fn skip(&mut self, regs: &mut CpuUserRegs, bytes: u64) {
        regs.rip = if self.has_next_rip {
            self.vmcb.control.next_rip
        } else {
            regs.rip.wrapping_add(bytes)
        };
        self.vmcb.control.interrupt_shadow = 0;
    }

    /// As [`Guest::skip`], past the instruction of a hypercall. If the processor doesn't say where the next
    /// one begins, `measure` says how long it is at an address where no call without prefixes was made
    /// last. A guest that changes the code there harms itself.
    #[inline]
    pub fn skip_hypercall(
        &mut self,
        regs: &mut CpuUserRegs,
        measure: impl FnOnce(&mut CpuUserRegs) -> u64,
    ) {
        const PLAIN: u64 = CallInstruction::Vmmcall.bytes();
        let bytes = if self.has_next_rip || regs.rip == self.plain_call {
            PLAIN
        } else {
            let bytes = measure(regs);
            if bytes == PLAIN {
                self.plain_call = regs.rip;
            }
            bytes
        };
        self.skip(regs, bytes);
    }

    /// Whether the guest was in ring 0.
    #[inline]
    pub fn is_kernel(&self) -> bool {
        self.vmcb.state.cpl == 0
    }

    /// Sets the root: the physical address of a validated L4. The caller flushes this CPU's
    /// translations, which retires the ASID.
    pub fn set_root(&mut self, physical: u64) {
        self.vmcb.state.cr3 = physical;
        self.asid.retire();
    }

    /// Flushes the translation of an address from the TLB of this CPU, on which the guest is loaded.
    pub fn invalidate_page(&self, address: u64) {
        percpu::this().forget_walk(address / PAGE_SIZE);
        if let Some(asid) = percpu::this().current_asid(&self.asid) {
            world::invalidate_page(address, asid);
        }
    }

    /// CR0.
    pub fn cr0(&self) -> u64 {
        self.vmcb.state.cr0
    }

    /// Sets CR0 to a value that the guest may have.
    pub fn set_cr0(&mut self, value: u64) {
        self.vmcb.state.cr0 = value;
    }

    /// CR4.
    pub fn cr4(&self) -> u64 {
        self.vmcb.state.cr4
    }

    /// Sets CR4 to a value that the guest may have.
    pub fn set_cr4(&mut self, value: u64) {
        self.vmcb.state.cr4 = value;
    }

    /// EFER as the guest sees it.
    pub fn efer(&self) -> u64 {
        self.vmcb.state.efer & !vmcb::EFER_SVME
    }

    /// Sets EFER to a value that the guest may have.
    pub fn set_efer(&mut self, value: u64) {
        self.vmcb.state.efer = value | vmcb::EFER_SVME;
    }

    /// Sets the breakpoints' control register.
    pub fn set_dr7(&mut self, value: u64) {
        self.vmcb.state.dr7 = value;
    }

    /// Takes what DR6 reports.
    pub fn take_dr6(&mut self) -> u64 {
        core::mem::replace(&mut self.vmcb.state.dr6, DR6_ONES)
    }

    /// Bases of FS and GS.
    pub fn bases(&self) -> SegmentBases {
        SegmentBases { fs: self.vmcb.state.fs.base, gs: self.vmcb.state.gs.base }
    }

    /// Sets the bases of FS, of GS, and the one that `swapgs` exchanges.
    pub fn set_bases(&mut self, fs: u64, gs: u64, kernel_gs: u64) {
        let state = &mut self.vmcb.state;
        (state.fs.base, state.gs.base, state.kernel_gs_base) = (fs, gs, kernel_gs);
    }

    /// The base that `swapgs` exchanges.
    pub fn kernel_gs_base(&self) -> u64 {
        self.vmcb.state.kernel_gs_base
    }

    /// Makes page faults exit, or not. #DB and #AC always do: their delivery can raise them again, for
    /// ever and without an interrupt being taken (CVE-2015-5307, CVE-2015-8104). #MC is the machine's.
    pub fn intercept_page_faults(&mut self, exits: bool) {
        const ALWAYS: u32 =
            1 << vector::DEBUG | 1 << vector::ALIGNMENT_CHECK | 1 << vector::MACHINE_CHECK;
        let faults = u32::from(exits) << vector::PAGE_FAULT;
        self.vmcb.control.intercept_exceptions = ALWAYS | faults;
    }
}
