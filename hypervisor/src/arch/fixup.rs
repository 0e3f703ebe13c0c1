//! The fixup table: instructions of the hypervisor that may fault because of a guest, each with the
//! address at which to resume. Linux calls it the exception table.
//!
//! Each such instruction puts a pair of self-relative addresses into the section `pinfold_fixups`:
//! its own, and the one to resume at. The trap handler looks up the faulting address; any other
//! fault in ring 0 is a bug of the hypervisor. The section has the flag R (retain), because no code
//! refers to its contents by name.

#[repr(C)]
struct Fixup {
    instruction: i32,
    resume: i32,
}

unsafe extern "C" {
    static __start_pinfold_fixups: [Fixup; 0];
    static __stop_pinfold_fixups: [Fixup; 0];
}

/// Address to resume at after a fault at `rip`, if the table lists that instruction.
pub fn resume_address(rip: u64) -> Option<u64> {
    let start = (&raw const __start_pinfold_fixups).cast::<Fixup>();
    let end = (&raw const __stop_pinfold_fixups).cast::<Fixup>();
    let mut fixup = start;
    while fixup < end {
        // SAFETY: the pair lies in the section, whose bounds the linker defines and which holds
        // only whole pairs.
        let (instruction, resume) = unsafe {
            let at = fixup as u64;
            (
                at.wrapping_add_signed(i64::from((*fixup).instruction)),
                (at + 4).wrapping_add_signed(i64::from((*fixup).resume)),
            )
        };
        if instruction == rip {
            return Some(resume);
        }
        fixup = fixup.wrapping_add(1);
    }
    None
}

/// Assembly that adds an entry to the table: the instruction at label `$at` may fault, and execution
/// resumes at label `$resume`.
macro_rules! fixup {
    ($at:literal, $resume:literal) => {
        concat!(
            ".pushsection pinfold_fixups, \"aR\"\n",
            ".balign 4\n",
            ".long ",
            $at,
            " - .\n",
            ".long ",
            $resume,
            " - .\n",
            ".popsection\n"
        )
    };
}
pub(crate) use fixup;
