//! From 32-bit mode to Rust, and the panic handler.
#![expect(unsafe_code, reason = "entry in assembly; the serial port")]

use crate::handover;
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use x86_64::instructions::port::Port;

/// Physical memory that is identity-mapped: as much as 32-bit addresses reach.
pub(crate) const IDENTITY_MAPPED: u64 = 4 << 30;

// The PVH entry: 32-bit protected mode without paging, the address of the start info in ebx. Four
// tables of 2 MiB pages map the first 4 GiB; the bits in their entries are present, writable and (L2)
// large. Then PAE (CR4 bit 5), EFER.LME and EFER.NXE (bits 8 and 11 of MSR 0xc0000080), and paging
// with write protection (CR0 bits 31 and 16).
core::arch::global_asm!(
    r#"
    .section .note.Xen, "a", @note
    .align 4
    .long 4
    .long 8
    .long 18                    # XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pinfold_loader_start

    .section .bss
    .align 4096
pinfold_loader_l4: .skip 4096
pinfold_loader_l3: .skip 4096
pinfold_loader_l2: .skip 4 * 4096
    .skip 64 * 1024
pinfold_loader_stack:

    .section .data
    .align 16
pinfold_loader_gdt:
    .quad 0
    .quad 0x00af9a000000ffff    # 64-bit code
    .quad 0x00cf92000000ffff    # data
pinfold_loader_gdt_end:
pinfold_loader_gdtr:
    .word pinfold_loader_gdt_end - pinfold_loader_gdt - 1
    .quad pinfold_loader_gdt

    .section .text
    .code32
    .global pinfold_loader_start
pinfold_loader_start:
    cld
    mov $pinfold_loader_stack, %esp
    movl $pinfold_loader_l3 + 3, pinfold_loader_l4
    mov $pinfold_loader_l2 + 3, %eax
    mov $pinfold_loader_l3, %edi
    mov $4, %ecx
1:  mov %eax, (%edi)
    add $4096, %eax
    add $8, %edi
    loop 1b
    mov $0x83, %eax
    mov $pinfold_loader_l2, %edi
    mov $2048, %ecx
2:  mov %eax, (%edi)
    add $0x200000, %eax
    add $8, %edi
    loop 2b
    mov $pinfold_loader_l4, %eax
    mov %eax, %cr3
    mov %cr4, %eax
    or $0x20, %eax
    mov %eax, %cr4
    mov $0xc0000080, %ecx
    rdmsr
    or $0x900, %eax
    wrmsr
    mov %cr0, %eax
    or $0x80010001, %eax
    mov %eax, %cr0
    lgdt pinfold_loader_gdtr
    ljmp $8, $3f
    .code64
3:  mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    xor %ebp, %ebp
    mov %ebx, %edi
    call {run}
    ud2
    "#,
    run = sym run,
    options(att_syntax)
);

extern "C" fn run(start_info: u64) -> ! {
    handover::run(start_info)
}

/// The first serial port, which works without being set up under QEMU.
struct Serial;

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: a byte to the first serial port is printed, or lost if there is none.
            unsafe { Port::<u8>::new(0x3f8).write(byte) };
        }
        Ok(())
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // The writer never fails.
    let _ = writeln!(Serial, "loader: {info}\r");
    loop {
        x86_64::instructions::hlt();
    }
}
