//! `iret` frames with any contents. A frame that can be returned to leads to `ud2`.

use crate::outcome::print_outcome;
use core::arch::{asm, global_asm};
use core::cell::UnsafeCell;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::layout::{
    FLAT_KERNEL_CS64, FLAT_RING3_CS64, FLAT_RING3_SS64, HYPERVISOR_START, M2P_START,
};
use pinfold_abi::trap::{IretFrame, VGCF_IN_SYSCALL};
use pinfold_guest::entry::catch::{Trap, catch};
use pinfold_guest::fixtures::Check;

const NONCANONICAL: u64 = 0x0123_4567_89ab_cdef;

/// The stack to return to: what is pushed there is not used.
#[repr(C, align(16))]
struct Stack(UnsafeCell<[u8; 16 * 1024]>);
// SAFETY: only ever a stack pointer's target.
unsafe impl Sync for Stack {}
static STACK: Stack = Stack(UnsafeCell::new([0; 16 * 1024]));

global_asm!(".pushsection .text.target, \"ax\"", "hostile_target:", "ud2", ".popsection",);

unsafe extern "C" {
    #[link_name = "hostile_target"]
    safe static TARGET: u8;
}

/// A frame that leads to `ud2` in the guest kernel.
pub(crate) fn good_frame() -> IretFrame {
    IretFrame {
        rip: &raw const TARGET as u64,
        cs: FLAT_KERNEL_CS64.into(),
        rflags: 0x2,
        rsp: STACK.0.get() as u64 + 16 * 1024,
        ss: FLAT_RING3_SS64.into(),
        ..IretFrame::default()
    }
}

/// Returns by a frame; says what stopped it.
pub(crate) fn return_by(frame: IretFrame) -> Result<(), Trap> {
    // SAFETY: the frame leads to something that traps, and the closure owns nothing. Interrupted
    // code's registers do not matter: nothing runs on behind it but the landing.
    unsafe {
        catch(|| {
            asm!("mov rsp, {frame}", "mov eax, {iret}", "syscall",
                frame = in(reg) &raw const frame, iret = const Hypercall::Iret as u64,
                options(noreturn));
        })
    }
}

pub(crate) fn run(check: &mut Check) {
    let attempts: [(&str, IretFrame); 38] = [
        ("iret to ud2", good_frame()),
        ("iret in syscall", IretFrame { flags: VGCF_IN_SYSCALL, ..good_frame() }),
        ("iret with any flags word", IretFrame { flags: !VGCF_IN_SYSCALL, ..good_frame() }),
        ("iret, rip not canonical", IretFrame { rip: NONCANONICAL, ..good_frame() }),
        (
            "iret in syscall, rip not canonical",
            IretFrame { rip: NONCANONICAL, flags: VGCF_IN_SYSCALL, ..good_frame() },
        ),
        ("iret, rip just not canonical", IretFrame { rip: 1 << 47, ..good_frame() }),
        ("iret, last canonical rip", IretFrame { rip: (1 << 47) - 1, ..good_frame() }),
        ("iret, rip 0", IretFrame { rip: 0, ..good_frame() }),
        ("iret, last rip", IretFrame { rip: u64::MAX, ..good_frame() }),
        ("iret, cs 0", IretFrame { cs: 0, ..good_frame() }),
        ("iret, cs 0x10", IretFrame { cs: 0x10, ..good_frame() }),
        ("iret, cs not there", IretFrame { cs: 0x1234, ..good_frame() }),
        ("iret, cs beyond the table", IretFrame { cs: 0xfff0, ..good_frame() }),
        ("iret, cs in the LDT", IretFrame { cs: 0x4, ..good_frame() }),
        ("iret, cs is data", IretFrame { cs: 0xe028, ..good_frame() }),
        ("iret, cs flat ring 3 shown as kernel", IretFrame { cs: 0xe030, ..good_frame() }),
        ("iret, cs with rpl 1", IretFrame { cs: 0xe031, ..good_frame() }),
        ("iret, cs with rpl 2", IretFrame { cs: 0xe032, ..good_frame() }),
        ("iret, cs of the hypervisor", IretFrame { cs: 0xe008, ..good_frame() }),
        ("iret, data of the hypervisor as cs", IretFrame { cs: 0xe010, ..good_frame() }),
        ("iret, a task as cs", IretFrame { cs: 0xe040, ..good_frame() }),
        ("iret, high bits of cs", IretFrame { cs: 0xffff_ffff_ffff_0000 | 0xe030, ..good_frame() }),
        ("iret, ss 0", IretFrame { ss: 0, ..good_frame() }),
        ("iret, ss not there", IretFrame { ss: 0x1234, ..good_frame() }),
        ("iret, ss is code", IretFrame { ss: 0xe033, ..good_frame() }),
        ("iret, ss of the hypervisor", IretFrame { ss: 0xe010, ..good_frame() }),
        ("iret, ss in the LDT", IretFrame { ss: 0x7, ..good_frame() }),
        ("iret, ss with rpl 0", IretFrame { ss: 0xe028, ..good_frame() }),
        ("iret, high bits of ss", IretFrame { ss: 0x1_0000_0000_e02b, ..good_frame() }),
        ("iret, no flags", IretFrame { rflags: 0, ..good_frame() }),
        ("iret, IOPL 3", IretFrame { rflags: 0x3002, ..good_frame() }),
        ("iret, NT", IretFrame { rflags: 0x4002, ..good_frame() }),
        ("iret, RF", IretFrame { rflags: 0x1_0002, ..good_frame() }),
        ("iret, VM", IretFrame { rflags: 0x2_0002, ..good_frame() }),
        ("iret, VIF and VIP", IretFrame { rflags: 0x18_0002, ..good_frame() }),
        ("iret, ID", IretFrame { rflags: 0x20_0002, ..good_frame() }),
        ("iret, DF and all conditions", IretFrame { rflags: 0xcd7, ..good_frame() }),
        ("iret, TF", IretFrame { rflags: 0x102, ..good_frame() }),
    ];
    for (what, frame) in attempts {
        print_outcome(check, what, return_by(frame).map(|()| 0));
    }
    // Nothing of the hypervisor's is code for a guest: to Pinfold no better than an address that
    // cannot be, to Xen a page fault.
    for rip in [HYPERVISOR_START + 0x20_0000_0000, M2P_START] {
        let vector = return_by(IretFrame { rip, ..good_frame() }).err().map(|trap| trap.vector);
        check.equal("iret, rip in the hole", vector, Some(if check.on_xen() { 14 } else { 13 }));
    }
    // Bits that the guest must not have, and the ones that it may, as they are shown afterwards.
    for rflags in [0x2, 0x3002, 0x4002, 0x2_0002, 0x18_0002, 0x20_0002, !0x4_0302] {
        if let Err(trap) = return_by(IretFrame { rflags, ..good_frame() }) {
            // NT is shown as it was; it is for tasks, which there are none of.
            check.equal("no IOPL, VM, VIF, VIP", trap.rflags & 0x1a_3000, 0);
            check.equal("the mode is the kernel's", trap.cs & 3, 0);
        } else {
            check.holds("ud2 traps", false);
        }
    }
    // As user code, but the selectors are the kernel's: the bits of cs alone decide.
    check.equal("flat user code differs by its bits only", FLAT_RING3_CS64 & 3, 3);
}
