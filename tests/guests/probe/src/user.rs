//! User mode: what its frames look like, and how its instructions end.

use crate::report::{Report, Trapped, UNSTEADY_FLAGS};
use core::fmt;
use pinfold_abi::layout::M2P_START;
use pinfold_guest::entry::{catch, user};
use pinfold_guest::fixtures::{TableFixture, UserProgram};

/// The kernel stack for entries from user mode.
#[repr(align(16))]
struct Stack(core::cell::UnsafeCell<[u64; 1024]>);
// SAFETY: only one vCPU runs.
unsafe impl Sync for Stack {}
static STACK: Stack = Stack(core::cell::UnsafeCell::new([0; 1024]));

struct Ended(Result<u64, catch::Trap>);

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(value) => write!(f, "exit({value:#x})"),
            Err(trap) => {
                let flags = trap.rflags & !UNSTEADY_FLAGS;
                write!(f, "{} cs={:#x} rflags={flags:#x}", Trapped(trap), trap.cs)
            }
        }
    }
}

/// Runs programs of a few bytes.
pub(crate) fn probe(fixture: &mut TableFixture, report: &mut Report) {
    let saved = fixture.save();
    let top = STACK.0.get() as u64 + size_of::<Stack>() as u64;
    // SAFETY: only this function uses the stack.
    if let Err(errno) = unsafe { user::set_kernel_stack(top) } {
        report.call("user.stack_switch", errno.0);
        return;
    }
    let mut run = |report: &mut Report, key: &str, code: &[u8]| {
        let inner = fixture.save();
        match UserProgram::new(fixture, code) {
            Err(result) => report.call(key, result),
            Ok(program) => {
                let mut value = 0;
                // The kernel reads the machine-to-physical table right before user mode: the translation
                // must not survive the change of roots (`user.read_m2p`).
                // SAFETY: the table is mapped for every guest kernel. The program has its own root,
                // code and stack.
                let ended = unsafe {
                    catch::catch(|| {
                        (M2P_START as *const u64).read_volatile();
                        value = user::run(program.rip, program.rsp, 7);
                    })
                };
                report.say(key, Ended(ended.map(|()| value)));
            }
        }
        UserProgram::unload();
        fixture.restore(inner);
    };
    const EXIT: [u8; 7] = [0xb8, 1, 0, 0, 0, 0x0f, 0x05];
    run(report, "user.exit", &EXIT);
    // xor eax, eax; syscall; add rdi, 1; mov eax, 1; syscall
    run(
        report,
        "user.null_call_and_exit",
        &[0x31, 0xc0, 0x0f, 0x05, 0x48, 0x83, 0xc7, 0x01, 0xb8, 1, 0, 0, 0, 0x0f, 0x05],
    );
    // SAFETY: the words are the frame of the last entry, on this function's own stack.
    let frame = unsafe { (top as *const [u64; 7]).wrapping_sub(1).read_volatile() };
    report.say("user.syscall_frame_cs", format_args!("{:#x}", frame[3]));
    report.say("user.syscall_frame_ss", format_args!("{:#x}", frame[6]));
    report.say("user.syscall_frame_rflags", format_args!("{:#x}", frame[4] & !0x8d5));
    report.say("user.syscall_frame_rcx_is_rip", frame[0] == frame[2]);
    report.say("user.syscall_frame_r11_is_rflags", frame[1] == frame[4]);
    run(report, "user.ud2", &[0x0f, 0x0b]);
    run(report, "user.int3", &[0xcc]);
    run(report, "user.int_0x80", &[0xcd, 0x80]);
    run(report, "user.int_0x20", &[0xcd, 0x20]);
    run(report, "user.hlt", &[0xf4]);
    run(report, "user.cli", &[0xfa]);
    run(report, "user.in", &[0xe4, 0x70]);
    run(report, "user.read_cr0", &[0x0f, 0x20, 0xc0]);
    run(report, "user.rdmsr", &[0x0f, 0x32]);
    run(report, "user.sysenter", &[0x0f, 0x34]);
    run(report, "user.read_unmapped", &[0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0x10]);
    run(report, "user.write_code", &[0x48, 0x89, 0x05, 0, 0, 0, 0]);
    // movabs rax, [0xffff800000000000]: the machine-to-physical table.
    run(report, "user.read_m2p", &[0x48, 0xa1, 0, 0, 0, 0, 0, 0x80, 0xff, 0xff]);
    // Forced-emulation cpuid, then exit with eax of leaf 0x40000000.
    run(
        report,
        "user.forced_cpuid",
        &[
            0xb8, 0, 0, 0, 0x40, 0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2, 0x48, 0x89, 0xdf, 0xb8,
            1, 0, 0, 0, 0x0f, 0x05,
        ],
    );
    fixture.restore(saved);
}
