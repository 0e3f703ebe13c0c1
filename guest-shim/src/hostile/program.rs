//! A user program of a few bytes with an address space of its own.

use super::{Lab, RO, RW, mmuext};
use crate::addr::Pfn;
use pinfold_abi::mmu::{EntryFlags, MmuextCmd};

/// Where the program's code is; its stack is the page behind.
const CODE: u64 = 0x40_0000;

/// A program that is ready to run: its user root is loaded.
#[derive(Clone, Copy, Debug)]
pub struct UserProgram {
    /// Where it begins.
    pub rip: u64,
    /// End of its stack.
    pub rsp: u64,
    /// The root table.
    pub root: Pfn,
}

impl UserProgram {
    /// Builds tables that map this code read-only and one page of stack, pins their root and
    /// loads it as the user root.
    ///
    /// # Errors
    ///
    /// The result of the call that was refused.
    pub fn new(lab: &mut Lab, code: &[u8]) -> Result<UserProgram, i64> {
        let user = EntryFlags::USER.bits();
        let (text, stack) = (lab.frame(), lab.frame());
        for (index, bytes) in code.chunks(8).enumerate() {
            let mut word = [0xcc; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            lab.set(text, index, u64::from_le_bytes(word));
        }
        let tables = [lab.frame(), lab.frame(), lab.frame(), lab.frame()];
        let [l4, l3, l2, l1] = tables;
        lab.set(l4, 0, lab.entry(l3, RW | user));
        lab.set(l3, 0, lab.entry(l2, RW | user));
        lab.set(l2, 2, lab.entry(l1, RW | user));
        lab.set(l1, 0, lab.entry(text, RO | user));
        lab.set(l1, 1, lab.entry(stack, RW | user));
        for table in tables {
            lab.seal(table);
        }
        let pinned = lab.pin(l4, 4);
        if pinned != 0 {
            return Err(pinned);
        }
        // SAFETY: the user root is not what the kernel runs on.
        let loaded = unsafe { mmuext(MmuextCmd::NewUserBaseptr as u32, lab.mfn(l4), 0) };
        if loaded != 0 {
            return Err(loaded);
        }
        Ok(UserProgram { rip: CODE, rsp: CODE + 0x2000, root: l4 })
    }

    /// Unloads the user root, whichever it is; the call's result.
    pub fn unload() -> i64 {
        // SAFETY: the user root is not what the kernel runs on.
        unsafe { mmuext(MmuextCmd::NewUserBaseptr as u32, 0, 0) }
    }
}
