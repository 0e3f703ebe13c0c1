//! Start of the application processors (APs).
//!
//! An AP that gets INIT and start-up IPIs begins in real mode at a page below 1 MiB (Intel SDM vol. 3,
//! 9.4.4). The code in that page, the trampoline, loads page tables that map the page itself
//! (identity-mapped) and the hypervisor's slots, switches to long mode and calls [`enter`].

use super::MachineInfo;
use crate::arch::entry::EntrySet;
use crate::arch::{apic, control, flaws, gdt, idt, ipi, layout, percpu, spec_ctrl};
use crate::memory::{direct_map, paging, tlb};
use crate::run;
use crate::time::clock;
use arrayvec::ArrayVec;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use pinfold_abi::layout::{HYPERVISOR_SLOTS, PAGE_SIZE};
use pinfold_abi::mmu::EntryFlags;
use pinfold_validator::{Index, Mfn};
use x86_64::structures::gdt::DescriptorFlags;

/// Time in milliseconds within which an AP must start.
const AP_STARTUP_TIMEOUT_MS: u64 = 500;

/// Offset of the parameters in the trampoline's page.
const PARAMETERS: usize = 0xf00;

/// Parameters of the trampoline, at [`PARAMETERS`]. The assembly below uses the offsets.
#[repr(C)]
struct Parameters {
    /// Offset 0: operand of `lgdt`, limit and base of `gdt`.
    gdt_limit: u16,
    gdt_base: [u16; 2],
    pad0: u16,
    /// Offset 8: operand of the far jump to long mode.
    long_mode: u32,
    code_selector: u32,
    /// Offset 16: root of the trampoline's page tables.
    cr3: u64,
    /// Offset 24: top of the CPU's stack.
    stack: u64,
    /// Offset 32: address of [`enter`].
    entry: u64,
    /// Offset 40: number of the CPU.
    cpu: u64,
    /// Offset 48: null descriptor, 64-bit code.
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

/// Number of the last AP that has initialised itself.
static ARRIVED: AtomicUsize = AtomicUsize::new(0);
/// APs may run domains.
static RELEASED: AtomicBool = AtomicBool::new(false);

/// Initialises the record and the descriptor tables of this CPU, which gets the number `cpu`.
///
/// # Safety
/// Once per CPU, with interrupts disabled, on the hypervisor's page tables, and with a number that no
/// other CPU has.
pub unsafe fn init_cpu(cpu: usize) {
    // SAFETY: as the caller ensures; `paging::build` mapped the GDT page in the idle GDT.
    unsafe {
        percpu::PerCpu::install(cpu, paging::translate);
        gdt::load(x86_64::VirtAddr::new(layout::idle_gdt(cpu)));
        gdt::load_segments();
    }
    idt::load(EntrySet::Direct);
}

/// Starts all APs. If one doesn't start, neither it nor those after it are used.
pub fn start_aps(machine: &MachineInfo) {
    let begin = clock::now_ns();
    let own = apic::id();
    let ids = &machine.tables.apic_ids;
    // One less even if the table lacks this CPU: there are per-CPU areas for so many.
    let others = ids.iter().copied().filter(|&id| id != own).take(ids.len().saturating_sub(1));
    match Trampoline::build(machine) {
        Some(trampoline) => {
            for (cpu, apic_id) in (1..).zip(others) {
                if !trampoline.start(cpu, apic_id) {
                    log::warn!("cpu apic_id={apic_id} did not start; it is not used");
                    // It may still start late and use its number and the parameters in the
                    // trampoline, so no other AP can be started.
                    break;
                }
            }
        }
        None => log::warn!("no memory below 1 MiB for the trampoline; one CPU is used"),
    }
    log::info!(
        "cpus listed={} running={} in={} us",
        machine.tables.apic_ids.len(),
        percpu::online().len(),
        (clock::now_ns() - begin) / 1000
    );
}

/// Lets the APs run guests.
pub fn release_aps() {
    // Release: pairs with the acquire in `enter`; the APs see all domains.
    RELEASED.store(true, Ordering::Release);
}

/// The page in which APs start, with the code and its parameters.
struct Trampoline {
    page: Mfn,
}

impl Trampoline {
    /// Builds the trampoline and its page tables in four pages below 1 MiB, which no domain ever gets.
    fn build(machine: &MachineInfo) -> Option<Trampoline> {
        const LOW: u64 = 1 << 20;
        let mut pages: ArrayVec<Mfn, 4> = ArrayVec::new();
        for region in machine.regions.iter().filter(|region| region.is_usable()) {
            // Not page 0, which has the interrupt vector table of real mode.
            let first = region.start.div_ceil(PAGE_SIZE).max(1);
            for mfn in first..region.end.min(LOW) / PAGE_SIZE {
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
        let table = EntryFlags::PRESENT | EntryFlags::WRITABLE;
        let large = table | EntryFlags::PAT_OR_SIZE;
        store(l4, 0, l3.address() | table.bits());
        store(l3, 0, l2.address() | table.bits());
        // The first 2 MiB.
        store(l2, 0, large.bits());
        for slot in HYPERVISOR_SLOTS {
            store(l4, slot, crate::memory::reserved_entry(slot));
        }
        let base = page.address();
        let start = &raw const pinfold_trampoline;
        let long = &raw const pinfold_trampoline_long as u64 - start as u64;
        let bytes = &raw const pinfold_trampoline_end as usize - start as usize;
        assert!(bytes <= PARAMETERS, "the trampoline's code fits before its parameters");
        // SAFETY: the code lies between the two symbols.
        let code = unsafe { core::slice::from_raw_parts(start, bytes) };
        // SAFETY: as above.
        unsafe { direct_map::write_bytes(page, 0, code) };
        let gdt = base + (PARAMETERS + core::mem::offset_of!(Parameters, gdt)) as u64;
        // SAFETY: the page belongs to the trampoline, and the parameters fit after the code.
        let parameters =
            unsafe { &mut *direct_map::frame(page).add(PARAMETERS).cast::<Parameters>() };
        *parameters = Parameters {
            gdt_limit: 15,
            gdt_base: [gdt as u16, (gdt >> 16) as u16],
            pad0: 0,
            long_mode: (base + long) as u32,
            code_selector: 8,
            cr3: l4.address(),
            stack: 0,
            entry: enter as *const () as u64,
            cpu: 0,
            gdt: [0, DescriptorFlags::KERNEL_CODE64.bits()],
        };
        Some(Trampoline { page })
    }

    /// Starts an AP. Returns `false` if it doesn't start in time.
    fn start(&self, cpu: usize, apic_id: u32) -> bool {
        // SAFETY: the page belongs to the trampoline, and no CPU executes it at the moment.
        let parameters =
            unsafe { &mut *direct_map::frame(self.page).add(PARAMETERS).cast::<Parameters>() };
        parameters.stack = layout::stack_top(cpu);
        parameters.cpu = cpu as u64;
        let page = self.page.get() as u8;
        // SAFETY: the CPU has not been started before.
        unsafe { apic::send_init(apic_id) };
        clock::wait_us(10_000);
        for _ in 0..2 {
            // SAFETY: the page is the trampoline; a CPU that runs ignores a start-up IPI.
            unsafe { apic::send_start_up(apic_id, page) };
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

/// Called by the trampoline, on the CPU's own stack and the trampoline's page tables.
extern "C" fn enter(cpu: usize) -> ! {
    // SAFETY: the idle root maps all that this CPU uses from here on.
    unsafe { tlb::load_first_root() };
    control::set_up();
    // SAFETY: the boot CPU gives each AP a number of its own, and each comes here once.
    unsafe { init_cpu(cpu) };
    flaws::detect();
    if let Some(mode) = flaws::plan().ibrs {
        spec_ctrl::set_ibrs(mode);
    }
    apic::init_ap();
    ARRIVED.store(cpu, Ordering::Release);
    while !RELEASED.load(Ordering::Acquire) {
        ipi::service_ipis();
        core::hint::spin_loop();
    }
    if !percpu::online().contains(cpu) {
        // It started too late and is not online: no CPU would ask it to flush its TLB.
        loop {
            x86_64::instructions::interrupts::disable();
            x86_64::instructions::hlt();
        }
    }
    run::run()
}
