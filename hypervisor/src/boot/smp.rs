//! Starting the other CPUs.
//!
//! A CPU that gets INIT and start-up messages begins in real mode at a page below 1 MiB.
//! The code there (the trampoline) loads page tables that map its own page at its own address and
//! the hypervisor's slots, switches to long mode and jumps to [`enter`]. Intel SDM vol. 3, 9.4.4.

use super::MachineInfo;
use crate::arch::entry::EntrySet;
use crate::arch::{apic, control, flaws, gdt, idt, ipi, layout, percpu, spec_ctrl};
use crate::memory::{direct_map, paging, tlb};
use crate::run;
use crate::time::clock;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use pinfold_abi::layout::HYPERVISOR_SLOTS;
use pinfold_validator::{Index, Mfn};

/// Milliseconds that a CPU has for its start.
const AP_STARTUP_TIMEOUT_MS: u64 = 500;

/// Where the trampoline finds what it needs, in its page: after the code.
const PARAMETERS: usize = 0xf00;

/// What the trampoline loads, at [`PARAMETERS`]. The assembly below knows the offsets.
#[repr(C)]
struct Parameters {
    /// 0: operand of `lgdt`: limit and base of `gdt`.
    gdt_limit: u16,
    gdt_base: [u16; 2],
    pad0: u16,
    /// 8: target of the jump to long mode.
    long_mode: u32,
    code_selector: u32,
    /// 16
    cr3: u64,
    /// 24
    stack: u64,
    /// 32
    entry: u64,
    /// 40
    cpu: u64,
    /// 48: null, 64-bit code.
    gdt: [u64; 2],
}

unsafe extern "C" {
    static pinfold_trampoline: u8;
    static pinfold_trampoline_long: u8;
    static pinfold_trampoline_end: u8;
}

core::arch::global_asm!(
    r#"
    .section .rodata.pinfold_trampoline, "a"
    .global pinfold_trampoline
    .global pinfold_trampoline_long
    .global pinfold_trampoline_end
    .code16
    pinfold_trampoline:
        cli
        cld
        mov ax, cs
        mov ds, ax
        lgdtd [{parameters}]
        # PAE
        mov eax, 0x20
        mov cr4, eax
        mov eax, dword ptr [{parameters} + 16]
        mov cr3, eax
        # EFER: LME, and NXE, as the tables use no-execute
        mov ecx, 0xc0000080
        rdmsr
        or eax, 0x900
        wrmsr
        # PG, WP, ET, PE
        mov eax, 0x80010011
        mov cr0, eax
        # jmp far dword [parameters + 8]
        .byte 0x66, 0xff, 0x2e
        .short {parameters} + 8
    .code64
    pinfold_trampoline_long:
        lea rbx, [rip + pinfold_trampoline]
        mov rsp, [rbx + {parameters} + 24]
        mov rdi, [rbx + {parameters} + 40]
        mov rax, [rbx + {parameters} + 32]
        xor ebp, ebp
        call rax
        ud2
    pinfold_trampoline_end:
    "#,
    parameters = const PARAMETERS,
);

/// The CPU that is being started has arrived.
static ARRIVED: AtomicUsize = AtomicUsize::new(0);
/// There are domains to run.
static MAY_RUN: AtomicBool = AtomicBool::new(false);

/// Sets up the descriptor tables of the calling CPU.
///
/// # Safety
/// Once per CPU, with interrupts off, with a number of its own, on the hypervisor's tables.
pub unsafe fn init_cpu(cpu: usize) {
    // SAFETY: as the caller vouches; `paging::build` mapped the GDT page at the idle window.
    unsafe {
        percpu::PerCpu::install(cpu, paging::translate);
        gdt::load(x86_64::VirtAddr::new(layout::idle_gdt(cpu)));
        gdt::load_segments();
    }
    idt::load(EntrySet::Direct);
}

/// Starts all CPUs but the calling one. One that doesn't come is left alone.
pub fn start_aps(machine: &MachineInfo) {
    let begin = clock::now_ns();
    let own = apic::id();
    let others = machine.tables.processors.iter().copied().filter(|&id| id != own);
    match Trampoline::build(machine) {
        Some(trampoline) => {
            for (cpu, apic_id) in (1..).zip(others) {
                if !trampoline.start(cpu, apic_id) {
                    log::warn!("processor apic_id={apic_id} did not start; it is not used");
                    // It may wake up late, with its number: nobody else gets that one, and none
                    // that would come after it.
                    break;
                }
            }
        }
        None => log::warn!("no memory below 1 MiB for starting processors; one is used"),
    }
    log::info!(
        "processors listed={} running={} in={} us",
        machine.tables.processors.len(),
        percpu::online().len(),
        (clock::now_ns() - begin) / 1000
    );
}

/// Lets all CPUs run guests.
pub fn release_aps() {
    // Release: they see all domains.
    MAY_RUN.store(true, Ordering::Release);
}

/// The page that CPUs start in, filled, and its page tables.
struct Trampoline {
    page: Mfn,
}

impl Trampoline {
    /// Takes four pages below 1 MiB: those are never given to domains.
    fn build(machine: &MachineInfo) -> Option<Trampoline> {
        const LOW: u64 = 1 << 20;
        let mut pages: ArrayVec<Mfn, 4> = ArrayVec::new();
        for region in machine.regions.iter().filter(|region| region.is_usable()) {
            // Page 0 stays what it is: the real-mode interrupt table.
            let first = region.start.div_ceil(4096).max(1);
            for mfn in first..region.end.min(LOW) / 4096 {
                if pages.is_full() {
                    break;
                }
                pages.push(Mfn::new(mfn));
            }
        }
        let [page, l4, l3, l2] = pages.into_inner().ok()?;
        for table in [page, l4, l3, l2] {
            // SAFETY: usable RAM that no domain ever gets; nobody else has the pages.
            unsafe { direct_map::clear(table) };
        }
        let store = |table: Mfn, slot: usize, value: u64| {
            // SAFETY: as above.
            unsafe { direct_map::entry(table, Index::new(slot)) }.store(value, Ordering::Relaxed);
        };
        /// Present, writable.
        const TABLE: u64 = 0x3;
        /// Present, writable, 2 MiB.
        const LARGE: u64 = 0x83;
        store(l4, 0, l3.get() << 12 | TABLE);
        store(l3, 0, l2.get() << 12 | TABLE);
        store(l2, 0, LARGE);
        for slot in HYPERVISOR_SLOTS {
            store(l4, slot, crate::memory::reserved_entry(slot));
        }
        let base = page.get() << 12;
        let start = &raw const pinfold_trampoline;
        let long = &raw const pinfold_trampoline_long as u64 - start as u64;
        let bytes = &raw const pinfold_trampoline_end as usize - start as usize;
        assert!(bytes <= PARAMETERS, "the trampoline's code fits before its parameters");
        // SAFETY: the code lies between the two symbols.
        let code = unsafe { core::slice::from_raw_parts(start, bytes) };
        // SAFETY: as above.
        unsafe { direct_map::write_bytes(page, 0, code) };
        let gdt = base + (PARAMETERS + core::mem::offset_of!(Parameters, gdt)) as u64;
        // SAFETY: the page is ours, the parameters fit behind the code.
        let parameters =
            unsafe { &mut *direct_map::frame(page).add(PARAMETERS).cast::<Parameters>() };
        *parameters = Parameters {
            gdt_limit: 15,
            gdt_base: [gdt as u16, (gdt >> 16) as u16],
            pad0: 0,
            long_mode: (base + long) as u32,
            code_selector: 8,
            cr3: l4.get() << 12,
            stack: 0,
            entry: enter as *const () as u64,
            cpu: 0,
            // Flat, present, accessed, 64-bit code, ring 0.
            gdt: [0, 0x00af_9b00_0000_ffff],
        };
        Some(Trampoline { page })
    }

    /// Starts one CPU. False if it doesn't come.
    fn start(&self, cpu: usize, apic_id: u32) -> bool {
        // SAFETY: the page is ours, and no CPU is on its way through it.
        let parameters =
            unsafe { &mut *direct_map::frame(self.page).add(PARAMETERS).cast::<Parameters>() };
        parameters.stack = layout::stack_top(cpu);
        parameters.cpu = cpu as u64;
        let page = self.page.get() as u8;
        apic::send_init(apic_id);
        clock::wait_us(10_000);
        for _ in 0..2 {
            apic::send_start_up(apic_id, page);
            let end = clock::now_ns() + AP_STARTUP_TIMEOUT_MS * 500_000;
            while clock::now_ns() < end {
                // Acquire: pairs with the release in `enter`; what the CPU set up is visible.
                if ARRIVED.load(Ordering::Acquire) == cpu {
                    // SAFETY: the CPU stores its number after `init_cpu`, which installs its record.
                    unsafe { percpu::set_online(cpu, apic_id) };
                    return true;
                }
                core::hint::spin_loop();
            }
        }
        false
    }
}

/// Where the trampoline leads: on the CPU's own stack, on the trampoline's tables.
extern "C" fn enter(cpu: usize) -> ! {
    // SAFETY: the idle root maps everything this CPU uses from here on.
    unsafe { tlb::load_first_root() };
    control::set_up();
    // SAFETY: the CPU that starts us gives each its own number, and each comes here once.
    unsafe { init_cpu(cpu) };
    flaws::detect();
    if let Some(mode) = flaws::plan().ibrs {
        spec_ctrl::set_ibrs(mode);
    }
    apic::init_ap();
    ARRIVED.store(cpu, Ordering::Release);
    while !MAY_RUN.load(Ordering::Acquire) {
        ipi::service_ipis();
        core::hint::spin_loop();
    }
    if !percpu::online().contains(cpu) {
        // It came too late: nobody counts on it, so nobody would have it flush.
        loop {
            x86_64::instructions::interrupts::disable();
            x86_64::instructions::hlt();
        }
    }
    run::run()
}
