//! The decoder of all supported instructions.

use super::decoded::{Operation, PteStore, Source, StoreError, accumulator, bit_string_offset};
use crate::decode::{
    SegmentBases, decode_instruction, has_32_bit_address, immediate, memory_address, memory_width,
    register_operand,
};
use crate::registers::Width;
use iced_x86::{Instruction, Mnemonic, OpKind};
use pinfold_abi::vcpu::CpuUserRegs;

pub(super) fn decode(
    bytes: &[u8],
    regs: &CpuUserRegs,
    bases: SegmentBases,
) -> Result<PteStore, StoreError> {
    let instruction = decode_instruction(bytes, regs.rip).ok_or(StoreError::Undecodable)?;
    let operation = operation(&instruction).ok_or(StoreError::Unsupported)?;
    let width = memory_width(&instruction).ok_or(StoreError::Unsupported)?;
    let len = instruction.len() as u8;
    if let Operation::Stos { repeat } = operation {
        return decode_stos(&instruction, repeat, width, regs, bases);
    }
    if instruction.op0_kind() != OpKind::Memory {
        return Err(StoreError::Unsupported);
    }
    let source = source(&instruction).ok_or(StoreError::Unsupported)?;
    let mut address =
        memory_address(&instruction, 0, regs, bases).ok_or(StoreError::Unsupported)?;
    if let (Operation::Bts | Operation::Btr | Operation::Btc, Source::Register(register)) =
        (operation, source)
    {
        // A bit number in a register may lie outside of the operand, which moves the operand.
        if has_32_bit_address(&instruction) {
            return Err(StoreError::Unsupported);
        }
        address = address.wrapping_add(bit_string_offset(register.get(regs), width));
    }
    Ok(PteStore { address, operation, source, width, len })
}

fn operation(instruction: &Instruction) -> Option<Operation> {
    Some(match instruction.mnemonic() {
        Mnemonic::Mov | Mnemonic::Movnti => Operation::Mov,
        Mnemonic::Xchg => Operation::Xchg,
        Mnemonic::Cmpxchg => Operation::Cmpxchg,
        Mnemonic::Xadd => Operation::Xadd,
        Mnemonic::Add => Operation::Add,
        Mnemonic::Or => Operation::Or,
        Mnemonic::Adc => Operation::Adc,
        Mnemonic::Sbb => Operation::Sbb,
        Mnemonic::And => Operation::And,
        Mnemonic::Sub => Operation::Sub,
        Mnemonic::Xor => Operation::Xor,
        Mnemonic::Inc => Operation::Inc,
        Mnemonic::Dec => Operation::Dec,
        Mnemonic::Not => Operation::Not,
        Mnemonic::Neg => Operation::Neg,
        Mnemonic::Bts => Operation::Bts,
        Mnemonic::Btr => Operation::Btr,
        Mnemonic::Btc => Operation::Btc,
        Mnemonic::Stosb | Mnemonic::Stosw | Mnemonic::Stosd | Mnemonic::Stosq => Operation::Stos {
            repeat: instruction.has_rep_prefix() || instruction.has_repne_prefix(),
        },
        _ => return None,
    })
}

/// The second operand. Segment registers (`mov [mem], ds`) are not supported.
fn source(instruction: &Instruction) -> Option<Source> {
    match instruction.op_count() {
        1 => Some(Source::None),
        2 => match instruction.op1_kind() {
            OpKind::Register => register_operand(instruction.op1_register()).map(Source::Register),
            _ => immediate(instruction, 1).map(Source::Immediate),
        },
        _ => None,
    }
}

fn decode_stos(
    instruction: &Instruction,
    repeat: bool,
    width: Width,
    regs: &CpuUserRegs,
    bases: SegmentBases,
) -> Result<PteStore, StoreError> {
    // 32-bit addresses, with edi and ecx, don't occur in 64-bit kernels.
    if instruction.op0_kind() != OpKind::MemoryESRDI {
        return Err(StoreError::Unsupported);
    }
    // No element is stored, so the instruction can't have faulted.
    if repeat && regs.rcx == 0 {
        return Err(StoreError::Unsupported);
    }
    let address = memory_address(instruction, 0, regs, bases).ok_or(StoreError::Unsupported)?;
    Ok(PteStore {
        address,
        operation: Operation::Stos { repeat },
        source: Source::Register(accumulator(width)),
        width,
        len: instruction.len() as u8,
    })
}
