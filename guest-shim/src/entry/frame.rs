//! The interrupted state, in one layout for exceptions and for the hypervisor's callbacks.

/// In place of a vector: the event callback.
pub(super) const EVENT: u64 = 0x100;
/// In place of a vector: the failsafe callback, called when a selector could not be loaded.
pub(super) const FAILSAFE: u64 = 0x101;
/// In place of a vector: the alias upcall (`pinfold_op`).
pub(super) const ALIAS: u64 = 0x102;

/// Assembly: pushes the general registers, in the order of [`TrapFrame`].
macro_rules! push_registers {
    () => {
        concat!(
            "push rdi\n",
            "push rsi\n",
            "push rdx\n",
            "push rcx\n",
            "push rax\n",
            "push r8\n",
            "push r9\n",
            "push r10\n",
            "push r11\n",
            "push rbx\n",
            "push rbp\n",
            "push r12\n",
            "push r13\n",
            "push r14\n",
            "push r15\n",
        )
    };
}
pub(in crate::entry) use push_registers;

/// Assembly: pops what [`push_registers`] pushed.
macro_rules! pop_registers {
    () => {
        concat!(
            "pop r15\n",
            "pop r14\n",
            "pop r13\n",
            "pop r12\n",
            "pop rbp\n",
            "pop rbx\n",
            "pop r11\n",
            "pop r10\n",
            "pop r9\n",
            "pop r8\n",
            "pop rax\n",
            "pop rcx\n",
            "pop rdx\n",
            "pop rsi\n",
            "pop rdi\n",
        )
    };
}
pub(in crate::entry) use pop_registers;

/// The interrupted state, as the entry stubs leave it on the stack.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
#[expect(missing_docs, reason = "the fields are registers")]
pub struct TrapFrame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// Exception vector.
    pub vector: u64,
    /// Error code; 0 for exceptions without one.
    pub error: u64,
    pub rip: u64,
    /// Selector in bits 0-15 (RPL 3: guest user), saved event mask in bits 32-39.
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

impl TrapFrame {
    /// Whether the trap came from guest user mode.
    pub fn from_user(&self) -> bool {
        self.cs & 3 == 3
    }
}
