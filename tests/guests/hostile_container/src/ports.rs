//! I/O ports.

use crate::attempt::{GP, raises, stopped_by};
use core::arch::asm;
use pinfold_guest::fixtures::Check;

pub(crate) fn run(check: &mut Check) {
    let (mut read, mut written) = (0u32, 0u32);
    for port in 0..=u16::MAX {
        let input = stopped_by(|| {
            // SAFETY: it is stopped.
            unsafe { asm!("in al, dx", in("dx") port, out("al") _) }
        });
        read += u32::from(input.map(|trap| trap.vector) != Some(GP));
        let output = stopped_by(|| {
            // SAFETY: it is stopped.
            unsafe { asm!("out dx, al", in("dx") port, in("al") 0u8) }
        });
        written += u32::from(output.map(|trap| trap.vector) != Some(GP));
    }
    check.equal("ports that can be read or end otherwise", read, 0);
    check.equal("ports that can be written or end otherwise", written, 0);
    let mut buffer = [0u64; 8];
    for port in [0u16, 0x20, 0x60, 0x64, 0x80, 0xcf8, 0xcf9, 0x3f8, 0xfffc, 0xffff] {
        raises(check, "in ax", GP, || {
            // SAFETY: it is stopped.
            unsafe { asm!("in ax, dx", in("dx") port, out("ax") _) }
        });
        raises(check, "in eax", GP, || {
            // SAFETY: as above.
            unsafe { asm!("in eax, dx", in("dx") port, out("eax") _) }
        });
        raises(check, "out dx, eax", GP, || {
            // SAFETY: as above.
            unsafe { asm!("out dx, eax", in("dx") port, in("eax") 0x8000_0000u32) }
        });
        raises(check, "rep insb", GP, || {
            // SAFETY: as above; the buffer has room.
            unsafe {
                asm!("rep insb", in("dx") port, inout("rdi") buffer.as_mut_ptr() => _,
                    inout("rcx") 8u64 => _);
            }
        });
        raises(check, "rep outsd", GP, || {
            // SAFETY: as above.
            unsafe {
                asm!("rep outsd", in("dx") port, inout("rsi") buffer.as_ptr() => _,
                    inout("rcx") 8u64 => _);
            }
        });
    }
    // SAFETY: as above.
    raises(check, "in al, 0x60", GP, || unsafe { asm!("in al, 0x60", out("al") _) });
    // SAFETY: as above.
    raises(check, "out 0xf4, al", GP, || unsafe { asm!("out 0xf4, al", in("al") 0u8) });
    check.equal("nothing came from a port", buffer, [0; 8]);
}
