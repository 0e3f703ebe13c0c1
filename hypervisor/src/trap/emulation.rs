//! Emulation of privileged instructions of guest kernels.

use super::{debug, page_fault};
use crate::arch::vector;
use crate::arch::{fpu, segments};
use crate::domain::bounce;
use crate::domain::element_stop::ElementStop;
use crate::domain::exit::Fatal;
use crate::domain::vcpu::Vcpu;
use crate::domain::{debug_registers, roots};
use crate::memory::frame_refs::WritableRef;
use crate::memory::guest;
use crate::time::clock;
use arrayvec::ArrayVec;
use core::sync::atomic::Ordering;
use pinfold_abi::address::PAGE_SIZE;
use pinfold_abi::hypercall::{CallInstruction, fill_hypercall_page};
use pinfold_emulate::cpuid::{self, CpuidContext};
use pinfold_emulate::msr::{self, MsrContext, WriteEffect};
use pinfold_emulate::privileged::{Decoded, MswSource, Privileged};
use pinfold_emulate::registers::Width;
use pinfold_emulate::{GeneralProtection, MAX_INSTRUCTION, SegmentBases, control};
use pinfold_validator::Mfn;
use x86_64::VirtAddr;

/// Bytes of an instruction as fetched from the guest.
pub type Bytes = ArrayVec<u8, MAX_INSTRUCTION>;

/// Why an instruction was not emulated.
pub enum EmulationFault {
    /// The instruction raises this in the guest.
    GeneralProtection,
    /// Its access to guest memory faults.
    PageFault {
        /// The address.
        address: u64,
        /// The error code.
        error: u32,
    },
    /// It was preempted, or a frame is busy: the guest executes it again.
    Busy,
}

impl From<GeneralProtection> for EmulationFault {
    fn from(_: GeneralProtection) -> EmulationFault {
        EmulationFault::GeneralProtection
    }
}

/// Fetches the instruction at the guest's rip: as many bytes as can be read, up to the longest
/// instruction.
#[inline(always)]
pub fn fetch(vcpu: &Vcpu) -> Bytes {
    fetch_at(vcpu.file.regs.rip)
}

/// Fetches the instruction at an address of the loaded vCPU's: see [`fetch`].
#[inline(always)]
pub fn fetch_at(rip: u64) -> Bytes {
    let mut bytes = Bytes::from([0; MAX_INSTRUCTION]);
    if guest::read_bytes(&mut bytes, rip).is_err() {
        // The next page can't be read; the bytes before it may be enough.
        bytes.truncate(4096 - (rip % 4096) as usize);
        if guest::read_bytes(&mut bytes, rip).is_err() {
            bytes.clear();
        }
    }
    bytes
}

/// Segment bases for address computation.
pub fn bases(vcpu: &Vcpu) -> SegmentBases {
    match &vcpu.container {
        Some(guest) => guest.bases(),
        None => SegmentBases { fs: segments::fs_base(), gs: segments::gs_base() },
    }
}

/// Emulates a decoded instruction of the guest kernel, or delivers the fault that it raises. If it is
/// not done yet, no register has changed, and the vCPU yields before it is restarted.
pub fn emulate(vcpu: &mut Vcpu, decoded: Decoded) -> Result<(), Fatal> {
    match execute(vcpu, decoded.instruction) {
        Ok(()) => {
            decoded.advance(&mut vcpu.file.regs);
            debug::step(vcpu)
        }
        Err(EmulationFault::GeneralProtection) => bounce::general_protection(vcpu, 0),
        Err(EmulationFault::PageFault { address, error }) => {
            page_fault::deliver(vcpu, address, error)
        }
        Err(EmulationFault::Busy) => {
            vcpu.domain.stats.preemptions.bump();
            vcpu.work.yield_before_retry();
            Ok(())
        }
    }
}

fn execute(vcpu: &mut Vcpu, instruction: Privileged) -> Result<(), EmulationFault> {
    match instruction {
        Privileged::ReadCr { cr, to } => {
            let value = read_cr(vcpu, cr)?;
            to.set(&mut vcpu.file.regs, value);
        }
        Privileged::WriteCr { cr, from } => {
            let value = from.get(&vcpu.file.regs);
            write_cr(vcpu, cr, value)?;
        }
        Privileged::Clts => set_task_switched(vcpu, false),
        Privileged::Lmsw(source) => {
            let set = control::lmsw(msw(source)?)?;
            set_task_switched(vcpu, set);
        }
        Privileged::ReadMsr => read_msr(vcpu)?,
        Privileged::WriteMsr => write_msr(vcpu)?,
        Privileged::Cpuid => answer_cpuid(vcpu),
        Privileged::ReadDr { dr, to } => {
            let extensions = control::has_debug_extensions(vcpu.cr4);
            let value = vcpu.debug.get(dr.into(), extensions);
            let value = value.map_err(|_| EmulationFault::GeneralProtection)?;
            to.set(&mut vcpu.file.regs, value);
        }
        Privileged::WriteDr { dr, from } => {
            let value = from.get(&vcpu.file.regs);
            let extensions = control::has_debug_extensions(vcpu.cr4);
            let set = vcpu.debug.set(dr.into(), value, extensions);
            set.map_err(|_| EmulationFault::GeneralProtection)?;
            debug_registers::reload(vcpu);
        }
        // All devices are coherent, so there is nothing to write back.
        Privileged::Wbinvd => {}
        Privileged::Invlpg { address } => {
            if guest::is_guest_address(address) {
                crate::memory::tlb::flush_page_local(address);
            }
        }
        Privileged::Rdtsc => {
            let tsc = clock::tsc();
            let regs = &mut vcpu.file.regs;
            (regs.rax, regs.rdx) = (tsc & 0xffff_ffff, tsc >> 32);
        }
        // A guest kernel with sufficient IOPL may access ports, where no device answers: reads return
        // ones, writes are dropped. Its interrupt flag is in `vcpu_info`, so cli and sti do nothing.
        Privileged::In { width, .. } if may_touch_ports(vcpu) => {
            let rax = &mut vcpu.file.regs.rax;
            *rax = match width {
                Width::B1 => *rax | 0xff,
                Width::B2 => *rax | 0xffff,
                Width::B4 | Width::B8 => 0xffff_ffff,
            };
        }
        Privileged::Out { .. } | Privileged::Cli | Privileged::Sti if may_touch_ports(vcpu) => {}
        // The rest is not for PV guests (`hlt` is sched_op block; `int n` was handled before).
        Privileged::Hlt
        | Privileged::Invd
        | Privileged::Cli
        | Privileged::Sti
        | Privileged::In { .. }
        | Privileged::Out { .. }
        | Privileged::Ins(_)
        | Privileged::Outs(_)
        | Privileged::Xsetbv
        | Privileged::Rdtscp
        | Privileged::Rdpmc
        | Privileged::Int(_)
        | Privileged::Other => return Err(EmulationFault::GeneralProtection),
    }
    Ok(())
}

/// Whether the guest kernel's virtual I/O privilege level (physdev_op set_iopl) is
/// enough; the kernel counts as ring 1.
fn may_touch_ports(vcpu: &Vcpu) -> bool {
    vcpu.domain.iopl.load(Ordering::Relaxed) >= 1
}

/// The operand of `lmsw`.
pub(super) fn msw(source: MswSource) -> Result<u16, EmulationFault> {
    match source {
        MswSource::Value(value) => Ok(value),
        MswSource::Memory(address) => {
            let mut bytes = [0; 2];
            guest::read_bytes(&mut bytes, address)
                .map_err(|_| EmulationFault::PageFault { address, error: 0 })?;
            Ok(u16::from_le_bytes(bytes))
        }
    }
}

fn set_task_switched(vcpu: &mut Vcpu, set: bool) {
    vcpu.task_switched = set;
    fpu::set_task_switched(set);
}

fn read_cr(vcpu: &Vcpu, cr: u8) -> Result<u64, EmulationFault> {
    match cr {
        0 => Ok(control::cr0_read(vcpu.task_switched)),
        2 => Ok(vcpu.info.cr2().load(Ordering::Relaxed)),
        3 => Ok(vcpu.kernel_root.frame().address()),
        4 => Ok(vcpu.cr4),
        _ => Err(EmulationFault::GeneralProtection),
    }
}

fn write_cr(vcpu: &mut Vcpu, cr: u8, value: u64) -> Result<(), EmulationFault> {
    match cr {
        0 => {
            let set = control::cr0_write(value)?;
            set_task_switched(vcpu, set);
        }
        2 => vcpu.info.cr2().store(value, Ordering::Relaxed),
        3 => write_cr3(vcpu, value)?,
        4 => {
            let write = control::cr4_write(value)?;
            if write.ignored != 0 {
                log::debug!("{} cr4 bits {:#x} asked for and not given", vcpu.who(), write.ignored);
            }
            vcpu.cr4 = write.view;
            crate::arch::control::load_guest_cr4(vcpu.cr4);
        }
        _ => return Err(EmulationFault::GeneralProtection),
    }
    Ok(())
}

/// Loads the root whose address is in a value for CR3. The bits below the address, which name the root's
/// memory type, have no effect: that is always write-back.
pub(super) fn write_cr3(vcpu: &mut Vcpu, value: u64) -> Result<(), EmulationFault> {
    roots::new_root(vcpu, Mfn::new(value >> 12)).map_err(|stop| match stop {
        // Only pins have upcalls.
        ElementStop::Preempted | ElementStop::Upcall => EmulationFault::Busy,
        ElementStop::Errno(_) => EmulationFault::GeneralProtection,
    })
}

fn read_msr(vcpu: &mut Vcpu) -> Result<(), EmulationFault> {
    let context = MsrContext {
        fs_base: segments::fs_base(),
        gs_base: segments::gs_base(),
        kernel_gs_base: vcpu.inactive_gs_base,
        tsc: clock::tsc(),
        boot_vcpu: vcpu.id == 0,
    };
    let number = vcpu.file.regs.rcx as u32;
    let value = match msr::read(number, &context) {
        Ok(value) => value,
        // Before the guest has a #GP handler a fault would crash it; Xen returns 0 then.
        Err(_) if vcpu.traps[usize::from(vector::GENERAL_PROTECTION)].address == 0 => 0,
        Err(fault) => return Err(fault.into()),
    };
    let regs = &mut vcpu.file.regs;
    (regs.rax, regs.rdx) = (value & 0xffff_ffff, value >> 32);
    Ok(())
}

fn write_msr(vcpu: &mut Vcpu) -> Result<(), EmulationFault> {
    let regs = &vcpu.file.regs;
    let value = regs.rax & 0xffff_ffff | regs.rdx << 32;
    match msr::write(regs.rcx as u32, value)? {
        WriteEffect::Ignore => {}
        WriteEffect::SetFsBase(base) => segments::set_fs_base(VirtAddr::new(base)),
        WriteEffect::SetGsBase(base) => segments::set_gs_base(VirtAddr::new(base)),
        WriteEffect::SetKernelGsBase(base) => vcpu.inactive_gs_base = base,
        WriteEffect::HypercallPage { mfn } => {
            write_hypercall_page(vcpu, mfn, CallInstruction::Syscall)?;
        }
    }
    Ok(())
}

/// Fills a frame of the guest's with hypercall stubs, if the guest itself could write to it. (The MSR
/// takes a guest frame number, which is a machine frame for PV guests.)
pub(super) fn write_hypercall_page(
    vcpu: &Vcpu,
    mfn: Mfn,
    instruction: CallInstruction,
) -> Result<(), EmulationFault> {
    let frame = WritableRef::get(vcpu.domain.id, mfn).map_err(|refusal| {
        let busy = vcpu.work.may_retry(&refusal);
        if busy { EmulationFault::Busy } else { EmulationFault::GeneralProtection }
    })?;
    vcpu.work.clear_retries();
    let mut page = [0; PAGE_SIZE as usize];
    fill_hypercall_page(&mut page, instruction);
    frame.write_bytes(0, &page);
    Ok(())
}

/// Answers `cpuid` with what a guest may see.
#[inline(always)]
pub(super) fn answer_cpuid(vcpu: &mut Vcpu) {
    let (mul, shift) = clock::scale();
    let context = CpuidContext {
        vcpu: vcpu.id.into(),
        tsc_khz: clock::tsc_khz() as u32,
        tsc_to_system_mul: mul,
        tsc_shift: shift,
        tsc_reliable: true,
    };
    let regs = &mut vcpu.file.regs;
    let (leaf, subleaf) = (regs.rax as u32, regs.rcx as u32);
    let host = raw_cpuid::cpuid!(leaf, subleaf);
    let shown = cpuid::filter(leaf, subleaf, [host.eax, host.ebx, host.ecx, host.edx], &context);
    let [eax, ebx, ecx, edx] = shown.map(u64::from);
    (regs.rax, regs.rbx, regs.rcx, regs.rdx) = (eax, ebx, ecx, edx);
}
