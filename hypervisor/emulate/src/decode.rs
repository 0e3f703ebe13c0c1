//! From bytes to instructions, and from operands to registers and addresses.

use crate::registers::{Gpr, RegisterOperand, Width};
use iced_x86::{Decoder, DecoderOptions, Instruction, MemorySize, OpKind, Register};
use pinfold_abi::vcpu::CpuUserRegs;

/// Bytes of the longest instruction (Intel SDM vol. 2, 2.3.11); no more need to be fetched.
pub const MAX_INSTRUCTION: usize = 15;

/// Bases of FS and GS, the segments that have one in 64-bit mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentBases {
    /// FS base.
    pub fs: u64,
    /// The active GS base.
    pub gs: u64,
}

/// Builds the decoder's tables. Call it once the heap is ready, before the first trap.
pub fn warm_up() {
    let _ = decode_instruction(&[0x90], 0);
}

/// Decodes the instruction at the beginning of `bytes`, in 64-bit mode. `None`: it is invalid, or
/// longer than the bytes.
pub(crate) fn decode_instruction(bytes: &[u8], rip: u64) -> Option<Instruction> {
    let bytes = &bytes[..bytes.len().min(MAX_INSTRUCTION)];
    let mut decoder = Decoder::with_ip(64, bytes, rip, DecoderOptions::NONE);
    let instruction = decoder.decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// The general register, or part of one, that the decoder names; `None` for other registers.
pub(crate) fn register_operand(register: Register) -> Option<RegisterOperand> {
    let number = register as u32;
    let low = |first: Register, width| {
        Some(RegisterOperand::low(Gpr::new((number - first as u32) as u8), width))
    };
    match register {
        Register::AH | Register::CH | Register::DH | Register::BH => Some(RegisterOperand {
            gpr: Gpr::new((number - Register::AH as u32) as u8),
            width: Width::B1,
            high: true,
        }),
        Register::AL | Register::CL | Register::DL | Register::BL => low(Register::AL, Width::B1),
        // The decoder lists ah, ch, dh, bh between bl and spl.
        _ if (Register::SPL..=Register::R15L).contains(&register) => Some(RegisterOperand::low(
            Gpr::new((number - Register::SPL as u32 + 4) as u8),
            Width::B1,
        )),
        _ if (Register::AX..=Register::R15W).contains(&register) => low(Register::AX, Width::B2),
        _ if (Register::EAX..=Register::R15D).contains(&register) => low(Register::EAX, Width::B4),
        _ if (Register::RAX..=Register::R15).contains(&register) => low(Register::RAX, Width::B8),
        _ => None,
    }
}

/// The linear address of a memory operand, explicit or implied.
pub(crate) fn memory_address(
    instruction: &Instruction,
    operand: u32,
    regs: &CpuUserRegs,
    bases: SegmentBases,
) -> Option<u64> {
    instruction.virtual_address(operand, 0, |register, _, _| match register {
        Register::FS => Some(bases.fs),
        Register::GS => Some(bases.gs),
        Register::ES | Register::CS | Register::SS | Register::DS => Some(0),
        _ => Some(register_operand(register)?.get(regs)),
    })
}

/// The width of the memory operand, if it is an integer.
pub(crate) fn memory_width(instruction: &Instruction) -> Option<Width> {
    match instruction.memory_size() {
        MemorySize::UInt8 | MemorySize::Int8 => Some(Width::B1),
        MemorySize::UInt16 | MemorySize::Int16 => Some(Width::B2),
        MemorySize::UInt32 | MemorySize::Int32 => Some(Width::B4),
        MemorySize::UInt64 | MemorySize::Int64 => Some(Width::B8),
        _ => None,
    }
}

/// Whether the address of an explicit memory operand has 32 bits.
pub(crate) fn has_32_bit_address(instruction: &Instruction) -> bool {
    let narrow = |register: Register| {
        register == Register::EIP
            || register_operand(register).is_some_and(|p| p.width == Width::B4)
    };
    narrow(instruction.memory_base()) || narrow(instruction.memory_index())
}

/// An immediate operand, sign-extended as the instruction does it.
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
