//! User code that executes forbidden instructions, or leaves any values in its registers.

use crate::outcome::print_outcome;
use pinfold_guest::entry::catch::catch;
use pinfold_guest::entry::user;
use pinfold_guest::fixtures::{Check, TableFixture, UserProgram};

/// Programs, each copied to where it runs. One that reaches its end exits with 99.
macro_rules! programs {
    ($($name:ident: $($line:literal),+;)*) => {
        $(core::arch::global_asm!(
            ".pushsection .rodata.user, \"a\"",
            concat!("hostile_user_", stringify!($name), ":"),
            $($line,)+
            "mov edi, 99",
            "mov eax, 1",
            "syscall",
            concat!("hostile_user_", stringify!($name), "_end:"),
            ".popsection",
        );)*

        fn programs() -> impl Iterator<Item = (&'static str, &'static [u8])> {
            [$({
                unsafe extern "C" {
                    #[link_name = concat!("hostile_user_", stringify!($name))]
                    safe static START: u8;
                    #[link_name = concat!("hostile_user_", stringify!($name), "_end")]
                    safe static END: u8;
                }
                let (start, end) = (&raw const START, &raw const END);
                // SAFETY: read-only bytes between two symbols of one section.
                let code = unsafe {
                    core::slice::from_raw_parts(start, end.offset_from_unsigned(start))
                };
                (stringify!($name), code)
            }),*].into_iter()
        }
    };
}

// Not `int 2`: QEMU 7.2's TCG gives the fault of `int n` the error code n*16+2, which Xen takes for
// `int 4`.
programs! {
    nothing: "nop";
    ud2: "ud2";
    int3: "int3";
    int_0: "int 0";
    int_1: "int 1";
    int_4: "int 4";
    int_8: "int 8";
    int_13: "int 13";
    int_14: "int 14";
    int_32: "int 32";
    int_128: "int 0x80";
    int_255: "int 255";
    hlt: "hlt";
    cli: "cli";
    sti: "sti";
    clts: "clts";
    invd: "invd";
    wbinvd: "wbinvd";
    invlpg: "invlpg [rsp]";
    swapgs: "swapgs";
    sysret: "mov rcx, 0x1000", ".byte 0x48, 0x0f, 0x07";
    sysexit: ".byte 0x48, 0x0f, 0x35";
    sysenter_nt: "pushfq", "or qword ptr [rsp], 0x4000", "popfq", ".byte 0x0f, 0x34";
    rdmsr: "mov ecx, 0xc0000080", "rdmsr";
    wrmsr: "mov ecx, 0xc0000082", "wrmsr";
    mov_cr0: "mov rax, cr0";
    mov_cr3: "mov cr3, rax";
    mov_cr8: "mov rax, cr8";
    mov_dr7: "mov rax, dr7";
    lgdt: "lgdt [rsp - 16]";
    lidt: "lidt [rsp - 16]";
    lldt: "xor eax, eax", "lldt ax";
    ltr: "xor eax, eax", "ltr ax";
    in_out: "in al, 0x21";
    out_port: "out 0x80, al";
    insb: "mov rdi, rsp", "sub rdi, 64", "mov edx, 0x60", "insb";
    rep_outsb: "mov rsi, rsp", "sub rsi, 64", "mov ecx, 64", "mov edx, 0x3f8", "rep outsb";
    vmcall: ".byte 0x0f, 0x01, 0xc1";
    lock_nop: ".byte 0xf0, 0x90";
    long_prefix: ".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90";
    jump_noncanonical: "movabs rax, 0x0123456789abcdef", "jmp rax";
    jump_hole: "movabs rax, 0xffff802000000000", "jmp rax";
    jump_end: "mov rax, -1", "jmp rax";
    write_kernel: "movabs rax, 0xffffffff80100000", "mov [rax], al";
    rsp_noncanonical_ud2: "movabs rsp, 0x0123456789abcdef", "ud2";
    rsp_hole_ud2: "movabs rsp, 0xffff800000000100", "ud2";
    rsp_0_int3: "xor esp, esp", "int3";
    rsp_noncanonical_syscall: "movabs rsp, 0x0123456789abcdef";
    push_noncanonical: "movabs rsp, 0x0123456789abcdef", "push rax";
    push_0: "xor esp, esp", "push rax";
    iretq_zero: "push 0", "push 0", "push 0", "push 0", "push 0", "iretq";
    iretq_hypervisor: "push 0xe010", "push rsp", "push 2", "push 0xe008", "push 0", "iretq";
    iretq_kernel_rpl: "push 0xe02b", "push rsp", "push 2", "push 0xe030", "push 0", "iretq";
    retf_hypervisor: "push 0xe008", "push 0", ".byte 0x48, 0xcb";
    retf_compat: "push 0xe023", "push 0x1000", ".byte 0x48, 0xcb";
    mov_ss_0: "xor eax, eax", "mov ss, eax";
    mov_ss_hypervisor: "mov eax, 0xe010", "mov ss, eax";
    mov_ds_hypervisor: "mov eax, 0xe008", "mov ds, eax";
    mov_gs_flat: "mov eax, 0xe02b", "mov gs, eax";
    mov_fs_flat: "mov eax, 0xe02b", "mov fs, eax";
    popf_all: "mov rax, 0x3cfed5", "push rax", "popfq";
    popf_tf: "pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop";
    popf_ac: "pushfq", "or qword ptr [rsp], 0x40000", "popfq", "mov rax, [rsp - 15]";
    std_syscall: "std", "xor eax, eax", "syscall";
    tf_syscall: "pushfq", "or qword ptr [rsp], 0x100", "popfq", "xor eax, eax", "syscall";
    fs_gs_base_0: "xor eax, eax", "mov fs, eax", "mov gs, eax";
    divide: "xor ecx, ecx", "div ecx";
    cpuid: "xor eax, eax", "cpuid";
    forced_cpuid: "xor eax, eax", ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e", "cpuid";
    forced_other: ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e", "hlt";
    forced_cut: ".byte 0x0f, 0x0b, 0x78, 0x65";
    fpu: "fninit", "fld1", "fstp st(0)";
    sse: "xorps xmm0, xmm0";
    int_ff_loop: "mov ecx, 1000", "2:", "xor eax, eax", "push rcx", "syscall", "pop rcx", "loop 2b";
}

pub(crate) fn run(fixture: &mut TableFixture, check: &mut Check) {
    let stack = fixture.frame();
    let top = fixture.va(stack).page(1).0;
    // SAFETY: a fixture frame.
    check.ok("set a kernel stack", unsafe { user::set_kernel_stack(top) });
    for (name, code) in programs() {
        let saved = fixture.save();
        match UserProgram::new(fixture, code) {
            Ok(program) => {
                let mut left = 0;
                // SAFETY: the program is mapped, and ends in a trap or a system call; leaving user mode
                // restores the kernel's registers.
                let result = unsafe { catch(|| left = user::run(program.rip, program.rsp, 7)) };
                print_outcome(check, name, result.map(|()| left));
                check.equal("unload", UserProgram::unload(), 0);
            }
            Err(errno) => check.equal(name, errno, 0),
        }
        fixture.restore(saved);
    }
}
