//! The decoder's edge: bytes to instructions, operands to registers and addresses.

use crate::registers::{Gpr, Part, Width};
use iced_x86::{Decoder, DecoderOptions, Instruction, MemorySize, OpKind, Register};
use pinfold_abi::vcpu::CpuUserRegs;

/// Bytes of the longest instruction; more need not be fetched.
pub const MAX_INSTRUCTION: usize = 15;

/// Bases of the segments that have one in 64-bit mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentBases {
    /// FS
    pub fs: u64,
    /// GS, the live one
    pub gs: u64,
}

/// Builds the decoder's tables. To be called once, before the first trap, with the heap ready.
pub fn warm_up() {
    let _ = instruction(&[0x90], 0);
}

/// The instruction that the bytes begin with, in 64-bit mode; `None` when there is none, or when it
/// is longer than the bytes.
pub(crate) fn instruction(bytes: &[u8], rip: u64) -> Option<Instruction> {
    let bytes = &bytes[..bytes.len().min(MAX_INSTRUCTION)];
    let mut decoder = Decoder::with_ip(64, bytes, rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// The general register, or part of one, of a decoder's register.
pub(crate) fn part(register: Register) -> Option<Part> {
    let number = register as u32;
    let of =
        |first: Register, width| Some(Part::low(Gpr::new((number - first as u32) as u8), width));
    match register {
        Register::AH | Register::CH | Register::DH | Register::BH => Some(Part {
            gpr: Gpr::new((number - Register::AH as u32) as u8),
            width: Width::B1,
            high: true,
        }),
        Register::AL | Register::CL | Register::DL | Register::BL => of(Register::AL, Width::B1),
        // The list of byte registers has ah, ch, dh, bh in the middle.
        _ if (Register::SPL..=Register::R15L).contains(&register) => {
            Some(Part::low(Gpr::new((number - Register::SPL as u32 + 4) as u8), Width::B1))
        }
        _ if (Register::AX..=Register::R15W).contains(&register) => of(Register::AX, Width::B2),
        _ if (Register::EAX..=Register::R15D).contains(&register) => of(Register::EAX, Width::B4),
        _ if (Register::RAX..=Register::R15).contains(&register) => of(Register::RAX, Width::B8),
        _ => None,
    }
}

/// The linear address of a memory operand, explicit or implied.
pub(crate) fn memory_operand(
    instruction: &Instruction,
    operand: u32,
    regs: &CpuUserRegs,
    bases: SegmentBases,
) -> Option<u64> {
    instruction.virtual_address(operand, 0, |register, _, _| match register {
        Register::FS => Some(bases.fs),
        Register::GS => Some(bases.gs),
        Register::ES | Register::CS | Register::SS | Register::DS => Some(0),
        _ => Some(part(register)?.get(regs)),
    })
}

/// Bytes of the memory operand, if it is an integer of a general register's width.
pub(crate) fn memory_width(instruction: &Instruction) -> Option<Width> {
    match instruction.memory_size() {
        MemorySize::UInt8 | MemorySize::Int8 => Some(Width::B1),
        MemorySize::UInt16 | MemorySize::Int16 => Some(Width::B2),
        MemorySize::UInt32 | MemorySize::Int32 => Some(Width::B4),
        MemorySize::UInt64 | MemorySize::Int64 => Some(Width::B8),
        _ => None,
    }
}

/// Whether the address of an explicit memory operand is computed in 32 bits.
pub(crate) fn has_narrow_address(instruction: &Instruction) -> bool {
    let narrow = |register: Register| {
        register == Register::EIP || part(register).is_some_and(|p| p.width == Width::B4)
    };
    narrow(instruction.memory_base()) || narrow(instruction.memory_index())
}

/// An immediate operand, sign-extended as the instruction wants.
pub(crate) fn immediate(instruction: &Instruction, operand: u32) -> Option<u64> {
    match instruction.op_kind(operand) {
        OpKind::Immediate8
        | OpKind::Immediate16
        | OpKind::Immediate32
        | OpKind::Immediate64
        | OpKind::Immediate8to16
        | OpKind::Immediate8to32
        | OpKind::Immediate8to64
        | OpKind::Immediate32to64 => Some(instruction.immediate(operand)),
        _ => None,
    }
}
