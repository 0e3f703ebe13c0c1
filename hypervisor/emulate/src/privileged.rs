//! Decodes instructions that a kernel in ring 3 can't execute.
//!
//! They arrive by #GP, or by #UD behind the forced-emulation prefix. What each does is the caller's
//! policy, with [`crate::control`], [`crate::msr`], [`crate::cpuid`] and [`crate::debug`]. Then
//! [`Decoded::advance`] moves the guest past the instruction.

use crate::decode::{
    MAX_INSTRUCTION, SegmentBases, decode_instruction, memory_address, memory_width,
    register_operand,
};
use crate::registers::{Gpr, RegisterOperand, Width, advance_rip};
use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};
use pinfold_abi::cpuid::FORCED_EMULATION_PREFIX;
use pinfold_abi::vcpu::CpuUserRegs;

/// An instruction of the guest kernel that trapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileged {
    /// `mov r64, crN`
    ReadCr {
        /// Control register, 0 to 15.
        cr: u8,
        /// Destination.
        to: Gpr,
    },
    /// `mov crN, r64`
    WriteCr {
        /// Control register, 0 to 15.
        cr: u8,
        /// Source.
        from: Gpr,
    },
    /// `clts`
    Clts,
    /// `lmsw`
    Lmsw(MswSource),
    /// `rdmsr`: number in ecx, value to edx:eax.
    ReadMsr,
    /// `wrmsr`: number in ecx, value in edx:eax.
    WriteMsr,
    /// `cpuid`: leaf in eax, sub-leaf in ecx.
    Cpuid,
    /// `hlt`
    Hlt,
    /// `invlpg`
    Invlpg {
        /// The linear address.
        address: u64,
    },
    /// `wbinvd` or `wbnoinvd`
    Wbinvd,
    /// `invd`
    Invd,
    /// `cli`
    Cli,
    /// `sti`
    Sti,
    /// `in`: to al, ax or eax.
    In {
        /// The first port.
        port: u16,
        /// Bytes transferred: 1, 2 or 4.
        width: Width,
    },
    /// `out`: from al, ax or eax.
    Out {
        /// The first port.
        port: u16,
        /// Bytes transferred: 1, 2 or 4.
        width: Width,
    },
    /// `ins`: from the port in dx.
    Ins(StringIo),
    /// `outs`: to the port in dx.
    Outs(StringIo),
    /// `mov r64, drN`
    ReadDr {
        /// Debug register, 0 to 15.
        dr: u8,
        /// Destination.
        to: Gpr,
    },
    /// `mov drN, r64`
    WriteDr {
        /// Debug register, 0 to 15.
        dr: u8,
        /// Source.
        from: Gpr,
    },
    /// `xsetbv`: number in ecx, value in edx:eax.
    Xsetbv,
    /// `rdtsc`
    Rdtsc,
    /// `rdtscp`
    Rdtscp,
    /// `rdpmc`
    Rdpmc,
    /// `int n`
    Int(u8),
    /// Any other instruction: it isn't emulated.
    Other,
}

/// The operand of `lmsw`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MswSource {
    /// The value of a register.
    Value(u16),
    /// Two bytes of guest memory at this linear address.
    Memory(u64),
}

/// A string I/O instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StringIo {
    /// The port.
    pub port: u16,
    /// Bytes of one element.
    pub width: Width,
    /// Linear address of the next element.
    pub address: u64,
    /// There is a repeat prefix: rcx is the number of elements.
    pub repeat: bool,
}

/// A decoded instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The instruction.
    pub instruction: Privileged,
    /// Length in bytes, a forced-emulation prefix included.
    pub len: u8,
}

impl Decoded {
    /// Advances rip past the instruction, after its results have been set.
    ///
    /// With TF set in `regs.rflags` the caller must deliver a #DB now.
    pub fn advance(&self, regs: &mut CpuUserRegs) {
        advance_rip(regs, self.len);
    }
}

/// Decodes the 64-bit instruction at `regs.rip` after a #GP, from its bytes. `None`: they are no
/// instruction, or end within one.
pub fn decode(bytes: &[u8], regs: &CpuUserRegs, bases: SegmentBases) -> Option<Decoded> {
    let instruction = decode_instruction(bytes, regs.rip)?;
    let len = instruction.len() as u8;
    Some(Decoded { instruction: classify(&instruction, regs, bases), len })
}

/// Decodes the forced-emulation prefix and the instruction behind it, after a #UD. `None`: there is no
/// prefix, or no valid instruction behind it. The ABI knows only CPUID in this form; anything else is
/// [`Privileged::Other`], and the #UD is the guest's.
pub fn decode_forced(bytes: &[u8]) -> Option<Decoded> {
    const CPUID: [u8; 2] = [0x0f, 0xa2];
    let rest = bytes.strip_prefix(&FORCED_EMULATION_PREFIX)?;
    let prefix = FORCED_EMULATION_PREFIX.len() as u8;
    if rest.starts_with(&CPUID) {
        return Some(Decoded { instruction: Privileged::Cpuid, len: prefix + 2 });
    }
    let len = decode_instruction(rest, 0)?.len() as u8;
    Some(Decoded { instruction: Privileged::Other, len: prefix + len })
}

/// Decodes `int n` of guest user mode, which may be 32-bit code. Returns the vector and the length in
/// bytes. Both modes have the same prefixes, but only 64-bit code has REX.
pub fn decode_interrupt(bytes: &[u8], long_mode: bool) -> Option<(u8, u8)> {
    let bytes = bytes.get(..MAX_INSTRUCTION).unwrap_or(bytes);
    let is_prefix = |byte: u8| {
        matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf2 | 0xf3)
            || long_mode && byte & 0xf0 == 0x40
    };
    let opcode = bytes.iter().position(|&byte| !is_prefix(byte))?;
    match bytes.get(opcode..opcode + 2)? {
        &[0xcd, vector] => Some((vector, opcode as u8 + 2)),
        _ => None,
    }
}

fn classify(instruction: &Instruction, regs: &CpuUserRegs, bases: SegmentBases) -> Privileged {
    match instruction.mnemonic() {
        Mnemonic::Mov => move_special(instruction),
        Mnemonic::Clts => Privileged::Clts,
        Mnemonic::Lmsw => match instruction.op0_kind() {
            OpKind::Register => match register_operand(instruction.op0_register()) {
                Some(part) => Privileged::Lmsw(MswSource::Value(part.get(regs) as u16)),
                None => Privileged::Other,
            },
            _ => match memory_address(instruction, 0, regs, bases) {
                Some(address) => Privileged::Lmsw(MswSource::Memory(address)),
                None => Privileged::Other,
            },
        },
        Mnemonic::Rdmsr => Privileged::ReadMsr,
        Mnemonic::Wrmsr => Privileged::WriteMsr,
        Mnemonic::Cpuid => Privileged::Cpuid,
        Mnemonic::Hlt => Privileged::Hlt,
        Mnemonic::Invlpg => match memory_address(instruction, 0, regs, bases) {
            Some(address) => Privileged::Invlpg { address },
            None => Privileged::Other,
        },
        Mnemonic::Wbinvd | Mnemonic::Wbnoinvd => Privileged::Wbinvd,
        Mnemonic::Invd => Privileged::Invd,
        Mnemonic::Cli => Privileged::Cli,
        Mnemonic::Sti => Privileged::Sti,
        Mnemonic::In => {
            match port_io(instruction.op1_kind(), instruction.op0_register(), instruction, regs) {
                Some((port, width)) => Privileged::In { port, width },
                None => Privileged::Other,
            }
        }
        Mnemonic::Out => {
            match port_io(instruction.op0_kind(), instruction.op1_register(), instruction, regs) {
                Some((port, width)) => Privileged::Out { port, width },
                None => Privileged::Other,
            }
        }
        Mnemonic::Insb | Mnemonic::Insw | Mnemonic::Insd => {
            string_io(instruction, 0, regs, bases).map_or(Privileged::Other, Privileged::Ins)
        }
        Mnemonic::Outsb | Mnemonic::Outsw | Mnemonic::Outsd => {
            string_io(instruction, 1, regs, bases).map_or(Privileged::Other, Privileged::Outs)
        }
        Mnemonic::Xsetbv => Privileged::Xsetbv,
        Mnemonic::Rdtsc => Privileged::Rdtsc,
        Mnemonic::Rdtscp => Privileged::Rdtscp,
        Mnemonic::Rdpmc => Privileged::Rdpmc,
        Mnemonic::Int => Privileged::Int(instruction.immediate8()),
        _ => Privileged::Other,
    }
}

/// `mov` between a general and a control or debug register.
fn move_special(instruction: &Instruction) -> Privileged {
    let gpr = |register: Register| register_operand(register).map(|part| part.gpr);
    let number = |register: Register, first: Register| (register as u32 - first as u32) as u8;
    let (to, from) = (instruction.op0_register(), instruction.op1_register());
    match instruction.code() {
        Code::Mov_r64_cr => match gpr(to) {
            Some(to) => Privileged::ReadCr { cr: number(from, Register::CR0), to },
            None => Privileged::Other,
        },
        Code::Mov_cr_r64 => match gpr(from) {
            Some(from) => Privileged::WriteCr { cr: number(to, Register::CR0), from },
            None => Privileged::Other,
        },
        Code::Mov_r64_dr => match gpr(to) {
            Some(to) => Privileged::ReadDr { dr: number(from, Register::DR0), to },
            None => Privileged::Other,
        },
        Code::Mov_dr_r64 => match gpr(from) {
            Some(from) => Privileged::WriteDr { dr: number(to, Register::DR0), from },
            None => Privileged::Other,
        },
        _ => Privileged::Other,
    }
}

/// The port, immediate or in dx, and the width, which is the accumulator's.
fn port_io(
    port: OpKind,
    accumulator: Register,
    instruction: &Instruction,
    regs: &CpuUserRegs,
) -> Option<(u16, Width)> {
    let width = register_operand(accumulator)?.width;
    match port {
        OpKind::Immediate8 => Some((instruction.immediate8().into(), width)),
        OpKind::Register => Some((regs.rdx as u16, width)),
        _ => None,
    }
}

fn string_io(
    instruction: &Instruction,
    operand: u32,
    regs: &CpuUserRegs,
    bases: SegmentBases,
) -> Option<StringIo> {
    let kind = instruction.op_kind(operand);
    if !matches!(kind, OpKind::MemoryESRDI | OpKind::MemorySegRSI) {
        return None;
    }
    Some(StringIo {
        port: regs.rdx as u16,
        width: memory_width(instruction)?,
        address: memory_address(instruction, operand, regs, bases)?,
        repeat: instruction.has_rep_prefix() || instruction.has_repne_prefix(),
    })
}

/// Sets the result of an `in` of `width` bytes: al, ax or eax.
pub fn set_in_result(regs: &mut CpuUserRegs, width: Width, value: u32) {
    RegisterOperand::low(Gpr::RAX, width).set(regs, u64::from(value));
}

/// Sets edx:eax to a 64-bit result, as `rdmsr` and `rdtsc` do.
pub const fn set_edx_eax(regs: &mut CpuUserRegs, value: u64) {
    regs.rax = value & 0xffff_ffff;
    regs.rdx = value >> 32;
}

/// The 64-bit operand in edx:eax, as of `wrmsr` and `xsetbv`.
pub const fn edx_eax(regs: &CpuUserRegs) -> u64 {
    regs.rdx << 32 | regs.rax & 0xffff_ffff
}

/// Sets the four results of `cpuid`.
pub const fn set_cpuid_result(regs: &mut CpuUserRegs, [eax, ebx, ecx, edx]: [u32; 4]) {
    regs.rax = eax as u64;
    regs.rbx = ebx as u64;
    regs.rcx = ecx as u64;
    regs.rdx = edx as u64;
}
