//! The new entry, and the effects on registers and flags.

use super::decoded::{Operation, PteStore, Source, accumulator};
use crate::alu::{self, AluResult};
use crate::registers::{RegisterOperand, STATUS_FLAGS, advance_rip};
use pinfold_abi::vcpu::CpuUserRegs;
use x86_64::registers::rflags::RFlags;

/// The result of a store, computed from the contents of the entry. Nothing has been changed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "nothing has been changed yet"]
pub struct StoreResult {
    /// The new value of the whole entry. If it equals the old one (a `cmpxchg` that fails), nothing
    /// needs to be written.
    pub entry: u64,
    /// The effects on registers, flags and rip.
    pub effects: RegisterEffects,
}

/// The effects of a store on registers, flags and rip, to be applied once the entry has been
/// written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the instruction has not completed"]
pub struct RegisterEffects {
    register: Option<(RegisterOperand, u64)>,
    /// The flags that the instruction sets or clears.
    changed_flags: RFlags,
    flags: RFlags,
    string: Option<StringStep>,
    len: u8,
}

/// One element of a string instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StringStep {
    bytes: u64,
    repeat: bool,
}

impl RegisterEffects {
    /// Completes the instruction: changes registers, flags and rip.
    ///
    /// With TF set in `regs.rflags` the caller must deliver a #DB now.
    pub fn apply(&self, regs: &mut CpuUserRegs) {
        if let Some((register, value)) = self.register {
            register.set(regs, value);
        }
        let (changed, flags) = (self.changed_flags.bits(), self.flags.bits());
        regs.rflags = regs.rflags & !changed | flags & changed;
        if let Some(step) = self.string {
            regs.rdi = match regs.rflags & RFlags::DIRECTION_FLAG.bits() {
                0 => regs.rdi.wrapping_add(step.bytes),
                _ => regs.rdi.wrapping_sub(step.bytes),
            };
            if step.repeat {
                regs.rcx = regs.rcx.wrapping_sub(1);
                // The instruction continues with the next element, and most likely faults again.
                if regs.rcx != 0 {
                    return;
                }
            }
        }
        advance_rip(regs, self.len);
    }
}

/// The result of an operation, in terms of the memory operand.
struct OperandResult {
    value: u64,
    changed_flags: RFlags,
    flags: RFlags,
    register: Option<(RegisterOperand, u64)>,
}

impl OperandResult {
    const fn without_flags(value: u64) -> OperandResult {
        let (changed_flags, flags) = (RFlags::empty(), RFlags::empty());
        OperandResult { value, changed_flags, flags, register: None }
    }

    const fn arithmetic(AluResult { value, flags }: AluResult) -> OperandResult {
        OperandResult { value, changed_flags: STATUS_FLAGS, flags, register: None }
    }

    const fn bit_test(value: u64, was_set: bool) -> OperandResult {
        let flags = if was_set { RFlags::CARRY_FLAG } else { RFlags::empty() };
        OperandResult { value, changed_flags: RFlags::CARRY_FLAG, flags, register: None }
    }
}

impl PteStore {
    /// Computes the result of the instruction, given that the entry is `old`.
    pub fn evaluate(&self, old: u64, regs: &CpuUserRegs) -> StoreResult {
        let mask = self.width.mask();
        let result = self.execute(old >> self.shift() & mask, regs);
        let entry = old & !(mask << self.shift()) | (result.value & mask) << self.shift();
        StoreResult {
            entry,
            effects: RegisterEffects {
                register: result.register,
                changed_flags: result.changed_flags,
                flags: result.flags,
                string: match self.operation {
                    Operation::Stos { repeat } => {
                        Some(StringStep { bytes: self.width.bytes(), repeat })
                    }
                    _ => None,
                },
                len: self.len,
            },
        }
    }

    /// Executes the operation on the value of the memory operand.
    fn execute(&self, operand: u64, regs: &CpuUserRegs) -> OperandResult {
        let width = self.width;
        let source = self.source.get(regs);
        let carry = regs.rflags & RFlags::CARRY_FLAG.bits() != 0;
        let bit = source & u64::from(width.bits() - 1);
        let was_set = operand >> bit & 1 != 0;
        match self.operation {
            Operation::Mov | Operation::Stos { .. } => OperandResult::without_flags(source),
            Operation::Not => OperandResult::without_flags(!operand),
            Operation::Xchg => OperandResult {
                register: self.old_to_source(operand),
                ..OperandResult::without_flags(source)
            },
            Operation::Cmpxchg => {
                let accumulator = accumulator(width);
                let compared = alu::sub(accumulator.get(regs), operand, false, width);
                let equal = compared.value == 0;
                OperandResult {
                    value: if equal { source } else { operand },
                    register: (!equal).then_some((accumulator, operand)),
                    ..OperandResult::arithmetic(compared)
                }
            }
            Operation::Xadd => OperandResult {
                register: self.old_to_source(operand),
                ..OperandResult::arithmetic(alu::add(operand, source, false, width))
            },
            Operation::Add => OperandResult::arithmetic(alu::add(operand, source, false, width)),
            Operation::Adc => OperandResult::arithmetic(alu::add(operand, source, carry, width)),
            Operation::Sub => OperandResult::arithmetic(alu::sub(operand, source, false, width)),
            Operation::Sbb => OperandResult::arithmetic(alu::sub(operand, source, carry, width)),
            Operation::And => OperandResult::arithmetic(alu::logic(operand & source, width)),
            Operation::Or => OperandResult::arithmetic(alu::logic(operand | source, width)),
            Operation::Xor => OperandResult::arithmetic(alu::logic(operand ^ source, width)),
            // inc and dec keep the carry.
            Operation::Inc => OperandResult {
                changed_flags: STATUS_FLAGS.difference(RFlags::CARRY_FLAG),
                ..OperandResult::arithmetic(alu::add(operand, 1, false, width))
            },
            Operation::Dec => OperandResult {
                changed_flags: STATUS_FLAGS.difference(RFlags::CARRY_FLAG),
                ..OperandResult::arithmetic(alu::sub(operand, 1, false, width))
            },
            Operation::Neg => OperandResult::arithmetic(alu::sub(0, operand, false, width)),
            Operation::Bts => OperandResult::bit_test(operand | 1 << bit, was_set),
            Operation::Btr => OperandResult::bit_test(operand & !(1 << bit), was_set),
            Operation::Btc => OperandResult::bit_test(operand ^ 1 << bit, was_set),
        }
    }

    /// Assigns the old value of the memory operand to the source register.
    const fn old_to_source(&self, operand: u64) -> Option<(RegisterOperand, u64)> {
        match self.source {
            Source::Register(register) => Some((register, operand)),
            _ => None,
        }
    }
}
