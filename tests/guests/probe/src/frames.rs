//! The frames that the hypervisor pushes when the guest kernel takes an exception.

use crate::report::{Report, Trapped, UNSTEADY_FLAGS};
use core::arch::asm;
use core::cell::Cell;
use core::fmt;
use pinfold_guest::entry::catch::{self, Trap};

struct Seen(Trap);

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = self.0.rflags & !UNSTEADY_FLAGS;
        write!(f, "{} cs={:#x} rflags={flags:#x}", Trapped(self.0), self.0.cs)
    }
}

fn seen(report: &mut Report, key: &str, trap: Result<(), Trap>) {
    match trap {
        Ok(()) => report.say(key, "no trap"),
        Err(trap) => report.say(key, Seen(trap)),
    }
}

/// Reports exceptions of the guest kernel. Events are masked here, so IF is shown as 0.
pub(crate) fn kernel(report: &mut Report) {
    // SAFETY: the instruction traps, and the closure owns nothing.
    unsafe {
        seen(report, "frame.int3", catch::catch(|| asm!("int3")));
        seen(report, "frame.ud2", catch::catch(|| asm!("ud2")));
        seen(report, "frame.int_0x20", catch::catch(|| asm!("int 0x20")));
        seen(report, "frame.int_0x80", catch::catch(|| asm!("int 0x80")));
        seen(report, "frame.int_14", catch::catch(|| asm!("int 14")));
        seen(
            report,
            "frame.divide",
            catch::catch(|| asm!("xor eax, eax", "div eax", out("eax") _, out("edx") _)),
        );
        seen(report, "frame.read_unmapped", catch::read(0x1000).map(drop));
        seen(report, "frame.write_unmapped", catch::write(0x1000, 0));
        seen(report, "frame.write_read_only", catch::write(pinfold_abi::layout::M2P_START, 0));
        seen(report, "frame.read_noncanonical", catch::read(0x0123_4567_89ab_cdef).map(drop));
        seen(report, "frame.jump_unmapped", catch::catch(|| asm!("call {}", in(reg) 0x1000u64)));
    }
    let offsets = Cell::new([0u64; 3]);
    for (slot, code) in [0u8, 1, 2].into_iter().enumerate() {
        // SAFETY: as above; `at` is the address of the instruction.
        let trap = unsafe {
            catch::catch(|| {
                let at: u64;
                match code {
                    0 => asm!("lea {0}, [rip + 2f]", "2: int3", out(reg) at),
                    1 => asm!("lea {0}, [rip + 2f]", "2: ud2", out(reg) at),
                    _ => asm!("lea {0}, [rip + 2f]", "2: int 0x20", out(reg) at),
                }
                core::hint::black_box(at);
            })
        };
        // The byte at rip tells where it points: after int3, at ud2, at int n.
        let rip = trap.err().map_or(0, |t| t.rip);
        // SAFETY: code is readable.
        let byte = unsafe { (rip as *const u8).read_volatile() };
        // SAFETY: as above.
        let before = unsafe { (rip as *const u8).wrapping_sub(1).read_volatile() };
        let mut all = offsets.get();
        all[slot] = u64::from(byte) << 8 | u64::from(before);
        offsets.set(all);
    }
    let [int3, ud2, int] = offsets.get();
    report.say("frame.int3_rip_after", int3 & 0xff == 0xcc);
    report.say("frame.ud2_rip_on", ud2 >> 8 == 0x0f);
    report.say("frame.int_n_rip_on", int >> 8 == 0xcd);
}
