//! What a decoded store makes of an entry and of the registers.

use super::{Operation, PteStore, accumulator};
use crate::alu::{self, Outcome};
use crate::registers::{CF, DF, Gpr, Part, STATUS_FLAGS, complete};
use pinfold_abi::vcpu::CpuUserRegs;

/// The outcome of a store, computed from the entry's value and not yet done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "nothing has been done yet"]
pub struct Planned {
    /// The whole entry as it is to be. Equal to the old value when the instruction changes nothing
    /// (a `cmpxchg` that fails): then nothing need be written.
    pub new: u64,
    /// What becomes of the registers.
    pub effects: Effects,
}

/// What becomes of the registers once the entry has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the instruction has not completed"]
pub struct Effects {
    register: Option<(Part, u64)>,
    flags_mask: u64,
    flags: u64,
    string: Option<StringStep>,
    len: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StringStep {
    bytes: u64,
    repeat: bool,
}

impl Effects {
    /// Completes the instruction: registers, flags, rip.
    ///
    /// Single stepping is the caller's: with TF set in `regs.rflags` a #DB is due now.
    pub fn commit(&self, regs: &mut CpuUserRegs) {
        if let Some((part, value)) = self.register {
            part.set(regs, value);
        }
        regs.rflags = regs.rflags & !self.flags_mask | self.flags & self.flags_mask;
        if let Some(step) = self.string {
            regs.rdi = match regs.rflags & DF {
                0 => regs.rdi.wrapping_add(step.bytes),
                _ => regs.rdi.wrapping_sub(step.bytes),
            };
            if step.repeat {
                regs.rcx = regs.rcx.wrapping_sub(1);
                // The next step is the same instruction again, and most likely the next fault.
                if regs.rcx != 0 {
                    return;
                }
            }
        }
        complete(regs, self.len);
    }
}

/// The result of an operation on the operand alone.
struct Done {
    value: u64,
    flags_mask: u64,
    flags: u64,
    register: Option<(Part, u64)>,
}

impl Done {
    const fn quiet(value: u64) -> Done {
        Done { value, flags_mask: 0, flags: 0, register: None }
    }

    const fn arithmetic(outcome: Outcome) -> Done {
        Done {
            value: outcome.value,
            flags_mask: STATUS_FLAGS,
            flags: outcome.flags,
            register: None,
        }
    }

    const fn bit(value: u64, was_set: bool) -> Done {
        Done { value, flags_mask: CF, flags: was_set as u64, register: None }
    }
}

impl PteStore {
    /// What the instruction makes of the entry `old` and of the registers. Changes neither.
    pub fn plan(&self, old: u64, regs: &CpuUserRegs) -> Planned {
        let mask = self.width.mask();
        let done = self.execute(old >> self.shift() & mask, regs);
        let new = old & !(mask << self.shift()) | (done.value & mask) << self.shift();
        Planned {
            new,
            effects: Effects {
                register: done.register,
                flags_mask: done.flags_mask,
                flags: done.flags,
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

    fn execute(&self, operand: u64, regs: &CpuUserRegs) -> Done {
        let width = self.width;
        let source = self.source.get(regs);
        let carry = regs.rflags & CF != 0;
        let bit = source & u64::from(width.bits() - 1);
        let was_set = operand >> bit & 1 != 0;
        match self.operation {
            Operation::Mov | Operation::Stos { .. } => Done::quiet(source),
            Operation::Not => Done::quiet(!operand),
            Operation::Xchg => {
                Done { register: self.old_to_source(operand), ..Done::quiet(source) }
            }
            Operation::Cmpxchg => {
                let accumulator = accumulator(width);
                let compared = alu::sub(accumulator.get(regs), operand, false, width);
                let equal = compared.value == 0;
                Done {
                    value: if equal { source } else { operand },
                    register: (!equal).then_some((accumulator, operand)),
                    ..Done::arithmetic(compared)
                }
            }
            Operation::Xadd => Done {
                register: self.old_to_source(operand),
                ..Done::arithmetic(alu::add(operand, source, false, width))
            },
            Operation::Add => Done::arithmetic(alu::add(operand, source, false, width)),
            Operation::Adc => Done::arithmetic(alu::add(operand, source, carry, width)),
            Operation::Sub => Done::arithmetic(alu::sub(operand, source, false, width)),
            Operation::Sbb => Done::arithmetic(alu::sub(operand, source, carry, width)),
            Operation::And => Done::arithmetic(alu::logic(operand & source, width)),
            Operation::Or => Done::arithmetic(alu::logic(operand | source, width)),
            Operation::Xor => Done::arithmetic(alu::logic(operand ^ source, width)),
            // These two leave the carry alone.
            Operation::Inc => Done {
                flags_mask: STATUS_FLAGS & !CF,
                ..Done::arithmetic(alu::add(operand, 1, false, width))
            },
            Operation::Dec => Done {
                flags_mask: STATUS_FLAGS & !CF,
                ..Done::arithmetic(alu::sub(operand, 1, false, width))
            },
            Operation::Neg => Done::arithmetic(alu::sub(0, operand, false, width)),
            Operation::Bts => Done::bit(operand | 1 << bit, was_set),
            Operation::Btr => Done::bit(operand & !(1 << bit), was_set),
            Operation::Btc => Done::bit(operand ^ 1 << bit, was_set),
        }
    }

    /// The old operand goes to the register that the new one came from.
    const fn old_to_source(&self, operand: u64) -> Option<(Part, u64)> {
        match self.source {
            super::Source::Part(part) => Some((part, operand)),
            _ => None,
        }
    }
}

/// The register whose value counts the steps of a repeated string instruction.
pub(super) const COUNTER: Gpr = Gpr::RCX;
