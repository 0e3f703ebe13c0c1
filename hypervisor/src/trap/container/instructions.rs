//! Instructions that the hypervisor executes for a guest in a hardware container.
//!
//! The processor says that one exited, and only newer ones say how long it is. So it is decoded from one
//! fetched copy of its bytes. If that is another instruction than the one that exited, another vCPU has
//! changed the code: the guest executes what is there now.

use crate::arch::container::{Event, Instruction};
use crate::arch::vector;
use crate::domain::container::{guest, raise, step};
use crate::domain::debug_registers;
use crate::domain::exit::{Fatal, Next};
use crate::domain::vcpu::{Mode, Vcpu};
use crate::memory::tlb;
use crate::trap::emulation::{self, EmulationFault};
use core::sync::atomic::Ordering;
use pinfold_abi::hypercall::CallInstruction;
use pinfold_abi::vcpu::CpuUserRegs;
use pinfold_emulate::MAX_INSTRUCTION;
use pinfold_emulate::container;
use pinfold_emulate::control::has_debug_extensions;
use pinfold_emulate::msr::{self, WriteEffect};
use pinfold_emulate::privileged::{self, Privileged};

/// What an instruction comes to.
enum Effect {
    /// It is done.
    Done,
    /// It is done, and the vCPU waits for an event.
    Halt,
    /// It is done, and raises a debug exception.
    DebugTrap,
    /// It raises this.
    Raise(Event),
    /// It is executed again: it was preempted, or other code is there now.
    Again,
}

impl From<EmulationFault> for Effect {
    fn from(fault: EmulationFault) -> Effect {
        match fault {
            EmulationFault::GeneralProtection => Effect::Raise(Event::GENERAL_PROTECTION),
            EmulationFault::PageFault { address, error } => {
                Effect::Raise(Event::PageFault { address, error })
            }
            EmulationFault::Busy => Effect::Again,
        }
    }
}

const INVALID_OPCODE: Event = Event::Exception(vector::INVALID_OPCODE, None);

/// Executes the instruction that exited.
///
/// # Errors
/// A triple fault.
pub(super) fn execute(vcpu: &mut Vcpu, instruction: Instruction) -> Result<Next, Fatal> {
    let is_kernel = vcpu.mode == Mode::Kernel;
    // The processor checks the privilege level first; only these two exit in ring 3.
    if !is_kernel && !matches!(instruction, Instruction::Cpuid | Instruction::Int1) {
        raise(vcpu, Event::GENERAL_PROTECTION)?;
        return Ok(Next::Continue);
    }
    let Some((decoded, len)) = identify(vcpu, instruction) else {
        return Ok(Next::Continue);
    };
    let effect = run(vcpu, instruction, decoded).unwrap_or_else(Effect::from);
    if matches!(effect, Effect::Done | Effect::Halt | Effect::DebugTrap)
        && let Vcpu { container: Some(guest), file, .. } = vcpu
    {
        guest.skip(&mut file.regs, len);
    }
    match effect {
        Effect::Done => step(vcpu)?,
        Effect::DebugTrap => raise(vcpu, Event::Exception(vector::DEBUG, None))?,
        Effect::Raise(event) => raise(vcpu, event)?,
        Effect::Again => {
            vcpu.domain.stats.preemptions.bump();
            vcpu.work.yield_before_retry();
        }
        Effect::Halt => {
            step(vcpu)?;
            // The slot checks again whether an event came meanwhile, when the vCPU leaves its CPU.
            if vcpu.info.upcall_pending().load(Ordering::SeqCst) == 0 {
                vcpu.block();
            }
            return Ok(Next::Yield);
        }
    }
    Ok(Next::Continue)
}

/// Length of the hypercall instruction at rip, prefixes included: everything up to its opcode.
#[cold]
pub(super) fn measure_hypercall(regs: &mut CpuUserRegs) -> u64 {
    const OPCODE: [u8; 3] = [0x0f, 0x01, 0xd9];
    let bytes = emulation::fetch_at(regs.rip);
    let prefixes = bytes.windows(OPCODE.len()).position(|window| window == OPCODE);
    // Other code is there now: the guest has changed it, and continues somewhere in it.
    (prefixes.unwrap_or(0) + OPCODE.len()) as u64
}

/// Finds the length of the instruction, and its operands if it has any. `None`: other code is there now,
/// or none that can be read.
fn identify(vcpu: &mut Vcpu, instruction: Instruction) -> Option<(Option<Privileged>, u64)> {
    let opcodes = instruction.opcode();
    let mut bytes = emulation::fetch(vcpu);
    if let Some(opcode) = opcodes.iter().find(|opcode| bytes.starts_with(opcode)) {
        return Some((None, opcode.len() as u64));
    }
    // Short of bytes, the decoder must not mistake what is there for an instruction.
    bytes.truncate(MAX_INSTRUCTION);
    let bases = guest(vcpu).bases();
    let Some(decoded) = privileged::decode(&bytes, &vcpu.file.regs, bases) else {
        if bytes.len() == MAX_INSTRUCTION {
            let _ = guest(vcpu).raise(INVALID_OPCODE);
        }
        return None;
    };
    let fits = match (instruction, decoded.instruction) {
        (Instruction::Cpuid, Privileged::Cpuid)
        | (Instruction::ReadMsr, Privileged::ReadMsr)
        | (Instruction::WriteMsr, Privileged::WriteMsr)
        | (Instruction::Hlt, Privileged::Hlt)
        | (Instruction::Wbinvd, Privileged::Wbinvd | Privileged::Invd)
        | (
            Instruction::MovSpecial,
            Privileged::ReadCr { .. }
            | Privileged::WriteCr { .. }
            | Privileged::ReadDr { .. }
            | Privileged::WriteDr { .. }
            | Privileged::Clts
            | Privileged::Lmsw(_),
        ) => true,
        (Instruction::Int1, _) => bytes.contains(&0xf1),
        _ => false,
    };
    fits.then_some((Some(decoded.instruction), decoded.len.into()))
}

fn run(
    vcpu: &mut Vcpu,
    instruction: Instruction,
    decoded: Option<Privileged>,
) -> Result<Effect, EmulationFault> {
    match instruction {
        Instruction::Cpuid => emulation::answer_cpuid(vcpu),
        Instruction::ReadMsr => read_msr(vcpu)?,
        Instruction::WriteMsr => write_msr(vcpu)?,
        Instruction::Hlt => return Ok(Effect::Halt),
        // All devices are coherent, so there is nothing to write back.
        Instruction::Wbinvd => {}
        Instruction::Int1 => return Ok(Effect::DebugTrap),
        Instruction::MovSpecial => match decoded {
            Some(decoded) => return access_register(vcpu, decoded),
            None => return Ok(Effect::Again),
        },
    }
    Ok(Effect::Done)
}

/// Executes an access to a control or debug register.
fn access_register(vcpu: &mut Vcpu, decoded: Privileged) -> Result<Effect, EmulationFault> {
    match decoded {
        Privileged::WriteCr { cr: 0, from } => {
            let value = container::cr0_write(from.get(&vcpu.file.regs))?;
            guest(vcpu).set_cr0(value);
        }
        Privileged::WriteCr { cr: 3, from } => {
            let value = from.get(&vcpu.file.regs);
            emulation::write_cr3(vcpu, value)?;
        }
        Privileged::WriteCr { cr: 4, from } => {
            let leaf = raw_cpuid::cpuid!(7, 0);
            let supported = container::supported_cr4(leaf.ebx, leaf.ecx);
            let value = container::cr4_write(from.get(&vcpu.file.regs), supported)?;
            guest(vcpu).set_cr4(value);
            // SMEP and SMAP change what cached translations allow.
            tlb::flush_local();
        }
        Privileged::Clts => {
            let cr0 = guest(vcpu).cr0();
            guest(vcpu).set_cr0(container::lmsw(cr0, cr0 as u16 & !(1 << 3)));
        }
        Privileged::Lmsw(source) => {
            let source = emulation::msw(source)?;
            let cr0 = guest(vcpu).cr0();
            guest(vcpu).set_cr0(container::lmsw(cr0, source));
        }
        Privileged::ReadDr { dr, to } => {
            let extensions = has_debug_extensions(guest(vcpu).cr4());
            let Ok(value) = vcpu.debug.get(dr.into(), extensions) else {
                return Ok(Effect::Raise(INVALID_OPCODE));
            };
            to.set(&mut vcpu.file.regs, value);
        }
        Privileged::WriteDr { dr, from } => {
            let value = from.get(&vcpu.file.regs);
            let extensions = has_debug_extensions(guest(vcpu).cr4());
            let set = vcpu.debug.set(dr.into(), value, extensions);
            set.map_err(|_| EmulationFault::GeneralProtection)?;
            debug_registers::reload(vcpu);
            let dr7 = vcpu.debug.control;
            guest(vcpu).set_dr7(dr7);
        }
        // CR8 is the priority of an APIC that the guest doesn't have; the others don't exist.
        _ => return Ok(Effect::Raise(INVALID_OPCODE)),
    }
    Ok(Effect::Done)
}

fn read_msr(vcpu: &mut Vcpu) -> Result<(), EmulationFault> {
    let number = vcpu.file.regs.rcx as u32;
    let value = match number {
        msr::EFER => guest(vcpu).efer(),
        _ => {
            let container = guest(vcpu);
            let (bases, kernel_gs_base) = (container.bases(), container.kernel_gs_base());
            let context = msr::MsrContext {
                fs_base: bases.fs,
                gs_base: bases.gs,
                kernel_gs_base,
                tsc: crate::time::clock::tsc(),
                boot_vcpu: vcpu.id == 0,
            };
            msr::read(number, &context)?
        }
    };
    let regs = &mut vcpu.file.regs;
    (regs.rax, regs.rdx) = (value & 0xffff_ffff, value >> 32);
    Ok(())
}

fn write_msr(vcpu: &mut Vcpu) -> Result<(), EmulationFault> {
    let regs = &vcpu.file.regs;
    let value = regs.rax & 0xffff_ffff | regs.rdx << 32;
    match regs.rcx as u32 {
        msr::EFER => {
            let value = container::efer_write(value)?;
            guest(vcpu).set_efer(value);
        }
        number => match msr::write(number, value)? {
            WriteEffect::Ignore => {}
            WriteEffect::HypercallPage { mfn } => {
                emulation::write_hypercall_page(vcpu, mfn, CallInstruction::Vmmcall)?;
            }
            // The processor writes the bases itself.
            WriteEffect::SetFsBase(_)
            | WriteEffect::SetGsBase(_)
            | WriteEffect::SetKernelGsBase(_) => return Err(EmulationFault::GeneralProtection),
        },
    }
    Ok(())
}
