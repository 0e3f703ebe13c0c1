//! Hardware containers: guests that run in ring 0 of a virtual machine of the processor's, on page
//! tables of their own that the validator checks.
//!
//! This is the part that doesn't depend on the processor's maker: why a guest exits ([`Exit`]), what can
//! be raised in it ([`Event`]). [`super::svm::guest::Guest`] is the one implementation. For Intel's VMX
//! there would be a second type with the same methods.

pub use super::svm::guest::Guest;
pub use super::svm::world::save_host;

/// Why a guest exited. The general registers, rip, rsp, rflags, cs and ss are in the register file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The instruction that makes hypercalls, in ring 3.
    UserHypercall,
    /// An interrupt of the machine, which is still pending.
    Interrupt,
    /// Nothing is left to do: an NMI of the machine, which has been handled.
    Nothing,
    /// An exception that exits: its error code is in the register file. For page faults, the address.
    Exception(u8, u64),
    /// An instruction that the hypervisor executes for the guest.
    Instruction(Instruction),
    /// An instruction that the guest can't execute: it raises this exception, #UD or #GP(0).
    Forbidden(u8),
    /// The guest returned from the handler of an NMI, or from something else meanwhile.
    NmiDone,
    /// The guest can't go on.
    Fatal(&'static str),
}

/// An instruction that the hypervisor executes for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// `cpuid`
    Cpuid,
    /// `rdmsr`
    ReadMsr,
    /// `wrmsr`
    WriteMsr,
    /// `hlt`
    Hlt,
    /// `wbinvd`, `wbnoinvd`, `invd`
    Wbinvd,
    /// `int1`
    Int1,
    /// An access to a control or debug register: it must be decoded.
    MovSpecial,
}

impl Instruction {
    /// The bytes of the instruction without prefixes, if they don't depend on operands.
    pub fn opcode(self) -> &'static [&'static [u8]] {
        match self {
            Instruction::Cpuid => &[&[0x0f, 0xa2]],
            Instruction::ReadMsr => &[&[0x0f, 0x32]],
            Instruction::WriteMsr => &[&[0x0f, 0x30]],
            Instruction::Hlt => &[&[0xf4]],
            Instruction::Wbinvd => &[&[0x0f, 0x09], &[0x0f, 0x08]],
            Instruction::Int1 => &[&[0xf1]],
            Instruction::MovSpecial => &[],
        }
    }
}

/// What can be raised in a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An exception, with its error code if it has one.
    Exception(u8, Option<u32>),
    /// A page fault at an address.
    PageFault {
        /// The address.
        address: u64,
        /// The error code.
        error: u32,
    },
    /// An NMI.
    Nmi,
}

impl Event {
    /// A general-protection fault.
    pub const GENERAL_PROTECTION: Event =
        Event::Exception(super::vector::GENERAL_PROTECTION, Some(0));
}
