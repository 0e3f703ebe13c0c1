//! Instructions of the hypervisor that may fault because of a guest, and where to go on then.
//!
//! Each such instruction puts a pair of self-relative addresses into the section
//! `pinfold_fixups`: itself, and the place to continue. The trap handler looks a fault up there;
//! any other fault in ring 0 is a bug of the hypervisor. The section is marked to be retained (R): no
//! code refers to its contents by name.

#[repr(C)]
struct Fixup {
    instruction: i32,
    resume: i32,
}

unsafe extern "C" {
    static __start_pinfold_fixups: [Fixup; 0];
    static __stop_pinfold_fixups: [Fixup; 0];
}

/// Where to go on after a fault at `rip`, if it is one that was reckoned with.
pub fn resume_address(rip: u64) -> Option<u64> {
    let start = (&raw const __start_pinfold_fixups).cast::<Fixup>();
    let end = (&raw const __stop_pinfold_fixups).cast::<Fixup>();
    let mut fixup = start;
    while fixup < end {
        // SAFETY: the linker bounds the section, which holds nothing but whole pairs.
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

/// Assembly that registers label `$at` (a faulting instruction) with label `$resume`.
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
