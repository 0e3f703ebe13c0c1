//! Privileged instructions in the guest kernel: emulated, ignored or refused.

use crate::report::Report;
use core::arch::asm;
use core::fmt::{self, Display};
use pinfold_guest::addr::PAGE_SIZE;
use pinfold_guest::entry::catch::{Trap, catch};
use pinfold_guest::entry::percpu;

struct Hex(u64);

impl Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Executes an instruction without a result.
macro_rules! run {
    ($($code:tt)*) => {
        // SAFETY: the instruction is emulated without an effect on memory, ignored, or refused by
        // a trap; the closure owns nothing.
        unsafe { catch(|| asm!($($code)*)) }.map(|()| "done")
    };
}

/// Executes an instruction that leaves its result in a register.
macro_rules! value {
    ($code:literal) => {{
        let mut value = 0u64;
        // SAFETY: as for `run!`.
        unsafe { catch(|| asm!($code, out(reg) value)) }.map(|()| Hex(value))
    }};
}

fn rdmsr(msr: u32) -> Result<Hex, Trap> {
    let (mut low, mut high) = (0u32, 0u32);
    // SAFETY: reading a register is emulated or refused.
    unsafe { catch(|| asm!("rdmsr", in("ecx") msr, lateout("eax") low, lateout("edx") high)) }?;
    Ok(Hex(u64::from(high) << 32 | u64::from(low)))
}

fn wrmsr(msr: u32, value: u64) -> Result<&'static str, Trap> {
    // SAFETY: the values written here change nothing that Rust code relies on.
    unsafe {
        catch(
            || asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32),
        )
    }?;
    Ok("done")
}

/// Reads the kernel's GS base, writes it and reads it again. It is restored before anything can
/// trap, because the trap handlers use it.
fn gs_base(other: u64) -> [u64; 2] {
    let (own, changed): (u64, u64);
    // SAFETY: emulated; GS is not used until its base is restored.
    unsafe {
        asm!("rdmsr", "shl rdx, 32", "or rax, rdx", "mov {own}, rax",
            "mov rax, {other}", "mov rdx, {other}", "shr rdx, 32", "wrmsr",
            "rdmsr", "shl rdx, 32", "or rax, rdx", "mov {changed}, rax",
            "mov rax, {own}", "mov rdx, {own}", "shr rdx, 32", "wrmsr",
            own = out(reg) own, changed = out(reg) changed, other = in(reg) other,
            in("ecx") 0xc000_0101u32, out("rax") _, out("rdx") _);
    }
    [own, changed]
}

/// Executes CPUID, plain or with the forced-emulation prefix.
fn cpuid(leaf: u32, subleaf: u32, forced: bool) -> [u32; 4] {
    let (a, b, c, d): (u32, u32, u32, u32);
    // SAFETY: the instruction only reads; rbx is saved by hand, because LLVM reserves it.
    unsafe {
        if forced {
            asm!("push rbx", ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e", "cpuid", "mov {0:e}, ebx", "pop rbx",
                out(reg) b, inout("eax") leaf => a, inout("ecx") subleaf => c, out("edx") d);
        } else {
            asm!("push rbx", "cpuid", "mov {0:e}, ebx", "pop rbx",
                out(reg) b, inout("eax") leaf => a, inout("ecx") subleaf => c, out("edx") d);
        }
    }
    [a, b, c, d]
}

/// Reports all of them.
pub(crate) fn probe(report: &mut Report) {
    control_registers(report);
    instructions(report);
    msrs(report);
    leaves(report);
}

fn control_registers(report: &mut Report) {
    report.trap("cpu.read_cr0", value!("mov {}, cr0"));
    report.trap(
        "cpu.read_cr3_is_page",
        value!("mov {}, cr3").map(|Hex(v)| v != 0 && v.is_multiple_of(PAGE_SIZE)),
    );
    report.trap("cpu.read_cr4", value!("mov {}, cr4"));
    report.trap("cpu.read_cr8", value!("mov {}, cr8"));
    report.trap("cpu.smsw", value!("smsw {}"));
    report.trap("cpu.write_cr0_same", run!("mov {0}, cr0", "mov cr0, {0}", out(reg) _));
    report.trap("cpu.write_cr0_ts", run!("mov {0}, cr0", "or {0}, 8", "mov cr0, {0}", out(reg) _));
    report.trap("cpu.read_cr0_with_ts", value!("mov {}, cr0"));
    report.trap("cpu.clts", run!("clts"));
    report.trap("cpu.read_cr0_after_clts", value!("mov {}, cr0"));
    report.trap(
        "cpu.write_cr0_without_wp",
        run!("mov {0}, cr0", "btr {0}, 16", "mov cr0, {0}", out(reg) _),
    );
    report.trap("cpu.write_cr4_same", run!("mov {0}, cr4", "mov cr4, {0}", out(reg) _));
    report.trap("cpu.write_cr4_tsd", run!("mov {0}, cr4", "or {0}, 4", "mov cr4, {0}", out(reg) _));
    report.trap("cpu.read_cr4_with_tsd", value!("mov {}, cr4").map(|Hex(v)| v & 4 != 0));
    report.trap("cpu.rdtsc_with_tsd", run!("rdtsc", out("eax") _, out("edx") _));
    report.trap(
        "cpu.write_cr4_tsd_off",
        run!("mov {0}, cr4", "btr {0}, 2", "mov cr4, {0}", out(reg) _),
    );
    report.trap(
        "cpu.write_cr4_smep",
        run!("mov {0}, cr4", "bts {0}, 20", "mov cr4, {0}", out(reg) _),
    );
    report.trap("cpu.read_cr4_with_smep", value!("mov {}, cr4").map(|Hex(v)| v >> 20 & 1));
    report.trap(
        "cpu.write_cr4_without_pae",
        run!("mov {0}, cr4", "btr {0}, 5", "mov cr4, {0}", out(reg) _),
    );
    report.trap("cpu.write_cr2", run!("mov cr2, {0}", in(reg) 0x5678u64));
    report.trap("cpu.read_cr2", value!("mov {}, cr2"));
    report.trap("cpu.write_cr3_same", run!("mov {0}, cr3", "mov cr3, {0}", out(reg) _));
    report.trap("cpu.write_cr3_bad", run!("mov cr3, {0}", in(reg) 0xf_ffff_ffff_f000u64));
    report.trap("cpu.write_cr8", run!("mov cr8, {0}", in(reg) 0u64));
    report.trap("cpu.read_dr0", value!("mov {}, dr0"));
    report.trap("cpu.read_dr6", value!("mov {}, dr6"));
    report.trap("cpu.read_dr7", value!("mov {}, dr7"));
    report.trap("cpu.write_dr0", run!("mov dr0, {0}", in(reg) 0u64));
}

fn instructions(report: &mut Report) {
    report.trap("cpu.hlt", run!("hlt"));
    report.trap("cpu.cli", run!("cli"));
    report.trap("cpu.sti", run!("sti"));
    report.trap("cpu.invlpg", run!("invlpg [{0}]", in(reg) 0x1000u64));
    report.trap("cpu.wbinvd", run!("wbinvd"));
    report.trap("cpu.invd", run!("invd"));
    report.trap("cpu.lgdt", run!("lgdt [rsp]"));
    report.trap("cpu.lidt", run!("lidt [rsp]"));
    report.trap("cpu.lldt", run!("lldt {0:x}", in(reg) 0u64));
    report.trap("cpu.ltr", run!("ltr {0:x}", in(reg) 0u64));
    report.trap("cpu.swapgs", run!("swapgs"));
    report.trap("cpu.sysret", run!("sysretq", in("rcx") 0x1000u64, in("r11") 2u64));
    report.trap("cpu.rdtsc", run!("rdtsc", out("eax") _, out("edx") _));
    report.trap("cpu.rdtscp", run!("rdtscp", out("eax") _, out("edx") _, out("ecx") _));
    report.trap("cpu.rdpmc", run!("rdpmc", in("ecx") 0, lateout("eax") _, lateout("edx") _));
    report.trap("cpu.in_0x70", run!("in al, 0x70", out("al") _));
    report.trap("cpu.out_0x80", run!("out 0x80, al", in("al") 0u8));
    report.trap("cpu.popf_clear_if", run!("pushfq", "btr qword ptr [rsp], 9", "popfq"));
    report.trap("cpu.rflags_after_popf", value!("pushfq; pop {}").map(|Hex(v)| Hex(v & 0x3200)));
    report.trap("cpu.monitor", run!("monitor", in("rax") 0u64, in("ecx") 0, in("edx") 0));
    report.trap("cpu.vmcall", run!("vmcall"));
    report.trap("cpu.vmrun", run!(".byte 0x0f, 0x01, 0xd8", in("rax") 0u64));
    report.trap("cpu.stac", run!("stac"));
    report.trap(
        "cpu.iretq_same_ring",
        run!(
        "mov {0}, rsp", "mov {1}, ss", "push {1}", "push {0}", "pushfq", "mov {1}, cs", "push {1}",
        "lea {1}, [rip + 2f]", "push {1}", "iretq", "2:", out(reg) _, out(reg) _),
    );
    report.trap("cpu.rdfsbase", run!("rdfsbase {0}", out(reg) _));
    report.trap("cpu.xgetbv", run!("xgetbv", in("ecx") 0, lateout("eax") _, lateout("edx") _));
}

fn msrs(report: &mut Report) {
    report.trap("msr.read.fs_base", rdmsr(0xc000_0100));
    report.trap("msr.write.fs_base", wrmsr(0xc000_0100, 0x1234_5000));
    report.trap("msr.read.fs_base_back", rdmsr(0xc000_0100));
    report.trap("msr.write.fs_base_0", wrmsr(0xc000_0100, 0));
    report.trap("msr.write.fs_base_noncanonical", wrmsr(0xc000_0100, 0x0123_4567_89ab_cdef));
    let [own, changed] = gs_base(0xffff_ffff_8010_0000);
    report.say("msr.read.gs_base", own == core::ptr::from_ref(percpu::this()) as u64);
    report.say("msr.read.gs_base_back", Hex(changed));
    report.trap("msr.read.kernel_gs_base", rdmsr(0xc000_0102));
    report.trap("msr.write.kernel_gs_base", wrmsr(0xc000_0102, 0x4321_0000));
    report.trap("msr.read.kernel_gs_base_back", rdmsr(0xc000_0102));
    report.trap("msr.read.efer", rdmsr(0xc000_0080));
    report.trap("msr.write.efer_same", rdmsr(0xc000_0080).and_then(|Hex(v)| wrmsr(0xc000_0080, v)));
    report.trap("msr.write.efer_0", wrmsr(0xc000_0080, 0));
    for (key, msr) in [
        ("msr.read.star", 0xc000_0081),
        ("msr.read.lstar", 0xc000_0082),
        ("msr.read.cstar", 0xc000_0083),
        ("msr.read.fmask", 0xc000_0084),
        ("msr.read.sysenter_cs", 0x174),
        ("msr.read.apic_base", 0x1b),
        ("msr.read.pat", 0x277),
        ("msr.read.platform_info", 0xce),
        ("msr.read.misc_features", 0x140),
        ("msr.read.ucode_rev", 0x8b),
        ("msr.read.misc_enable", 0x1a0),
        ("msr.read.mcg_cap", 0x179),
        ("msr.read.spec_ctrl", 0x48),
        ("msr.read.tsc_aux", 0xc000_0103),
        ("msr.read.mtrr_def_type", 0x2ff),
        ("msr.read.hwcr", 0xc001_0015),
        ("msr.read.syscfg", 0xc001_0010),
        ("msr.read.de_cfg", 0xc001_1029),
        ("msr.read.unknown", 0x1234_5678),
        ("msr.read.x2apic_id", 0x802),
    ] {
        report.trap(key, rdmsr(msr));
    }
    report.trap("msr.read.tsc", rdmsr(0x10).map(|Hex(v)| v != 0));
    for (key, msr, value) in [
        ("msr.write.lstar", 0xc000_0082, 0xffff_ffff_8010_0000),
        ("msr.write.apic_base", 0x1b, 0xfee0_0800),
        ("msr.write.pat_same", 0x277, 0x0000_0501_0007_0406),
        ("msr.write.pat_other", 0x277, 0),
        ("msr.write.misc_enable", 0x1a0, 0),
        ("msr.write.tsc", 0x10, 0),
        ("msr.write.mtrr_def_type", 0x2ff, 0),
        ("msr.write.ucode", 0x79, 0),
        ("msr.write.unknown", 0x1234_5678, 0),
    ] {
        report.trap(key, wrmsr(msr, value));
    }
}

fn leaves(report: &mut Report) {
    let [max, b, c, d] = cpuid(0x4000_0000, 0, true);
    report.say("cpuid.hv_max", Hex(max.into()));
    report.say("cpuid.hv_signature", [b, c, d] == pinfold_abi::cpuid::SIGNATURE);
    report.say("cpuid.hv_version", Hex(cpuid(0x4000_0001, 0, true)[0].into()));
    let [pages, base, features, _] = cpuid(0x4000_0002, 0, true);
    report.say("cpuid.hv_pages", pages);
    report.say("cpuid.hv_msr_base", Hex(base.into()));
    report.say("cpuid.hv_features", Hex(features.into()));
    let one = cpuid(1, 0, true);
    let hidden_ecx = [2u32, 3, 4, 5, 6, 7, 8, 14, 15, 17, 18, 21, 24];
    report.say("cpuid.1c.hidden_are_hidden", hidden_ecx.iter().all(|bit| one[2] >> bit & 1 == 0));
    report.say("cpuid.1c.hypervisor", one[2] >> 31);
    let hidden_edx = [1u32, 3, 12, 13, 17, 21, 29, 31];
    let shown = hidden_edx.iter().fold(0, |mask, bit| mask | (one[3] & 1 << bit));
    report.say("cpuid.1d.shown_of_hidden", Hex(shown.into()));
    let seven = cpuid(7, 0, true);
    let hidden_b = [1u32, 2, 7, 10, 12, 14, 15, 20, 25];
    let shown = hidden_b.iter().fold(0, |mask, bit| mask | (seven[1] & 1 << bit));
    report.say("cpuid.7b.shown_of_hidden", Hex(shown.into()));
    let extended = cpuid(0x8000_0001, 0, true);
    report.say("cpuid.ext.svm", extended[2] >> 2 & 1);
    report.say("cpuid.ext.page1gb", extended[3] >> 26 & 1);
    report.say(
        "cpuid.ext.nx_lm_syscall",
        Hex(u64::from(extended[3] & (1 << 20 | 1 << 29 | 1 << 11))),
    );
    report.say("cpuid.plain_runs", cpuid(0, 0, false)[0] != 0);
}
