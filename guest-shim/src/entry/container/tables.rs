//! Descriptor tables (AMD APM volume 2, 4.8 and 12.2.5): a GDT and a TSS for each vCPU, one IDT for
//! all.

use alloc::boxed::Box;
use core::arch::asm;
use core::cell::UnsafeCell;

/// Selector of the kernel's code.
pub(crate) const KERNEL_CS: u16 = 0x08;
/// Selector of the kernel's stack.
pub(crate) const KERNEL_SS: u16 = 0x10;
/// Selector of 32-bit user code. `sysretq` loads CS from 16 bytes and SS from 8 bytes above.
pub(super) const USER_CS32: u16 = 0x18 | 3;
/// Selector of a user program's stack.
pub(super) const USER_SS: u16 = USER_CS32 + 8;
/// Selector of 64-bit user code.
pub(super) const USER_CS64: u16 = USER_CS32 + 16;
const TSS: u16 = 0x30;

/// Descriptors of the flat segments, from [`KERNEL_CS`] on: present, accessed, L for 64-bit code and
/// D for 32-bit code.
const FLAT: [u64; 5] = [
    0x00af_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_fb00_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x00af_fb00_0000_ffff,
];

/// Gates: the exceptions, and the event upcall behind them.
pub(super) const GATES: usize = UPCALL_VECTOR as usize + 1;
/// The vector of the event upcall: the first one after the exceptions.
pub(in crate::entry) const UPCALL_VECTOR: u8 = 0x20;

/// Bytes of a stack of its own for a vector.
const IST_STACK_SIZE: usize = 8 * 1024;

/// A stack of the interrupt stack table, by its number in a gate. These vectors may come when RSP
/// is not the kernel's.
#[derive(Clone, Copy)]
pub(super) enum Ist {
    /// #DF and #MC, after which nothing goes on.
    Fatal = 1,
    Nmi = 2,
    Debug = 3,
}

impl Ist {
    /// The stack of a vector, if it has one.
    pub(super) fn of(vector: usize) -> Option<Ist> {
        match vector {
            1 => Some(Ist::Debug),
            2 => Some(Ist::Nmi),
            8 | 18 => Some(Ist::Fatal),
            _ => None,
        }
    }
}

/// The task state segment of 64-bit mode.
#[repr(C, packed(4))]
struct Tss {
    reserved: u32,
    rsp: [u64; 3],
    reserved_too: u64,
    ist: [u64; 7],
    reserved_last: [u16; 5],
    /// Offset of the I/O permission bits. Beyond the limit: there are none.
    io_map: u16,
}
const _: () = assert!(size_of::<Tss>() == 104);

/// The tables of one vCPU. The processor writes the busy bit of the TSS descriptor.
#[repr(C, align(16))]
pub(crate) struct CpuTables {
    gdt: [u64; 8],
    tss: Tss,
    stacks: [[u64; IST_STACK_SIZE / 8]; 3],
}

/// Operand of `lgdt` and `lidt`.
#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

impl CpuTables {
    /// All zeros, so that the boot vCPU's tables take no room in the image.
    const EMPTY: CpuTables = CpuTables {
        gdt: [0; 8],
        tss: Tss {
            reserved: 0,
            rsp: [0; 3],
            reserved_too: 0,
            ist: [0; 7],
            reserved_last: [0; 5],
            io_map: 0,
        },
        stacks: [[0; IST_STACK_SIZE / 8]; 3],
    };

    pub(super) fn new() -> Box<CpuTables> {
        Box::new(CpuTables::EMPTY)
    }

    /// Fills in the descriptors, and the stacks of vectors.
    pub(super) fn init(&mut self) {
        self.gdt[1..6].copy_from_slice(&FLAT);
        let mut ist = [0; 7];
        for (slot, stack) in ist.iter_mut().zip(&self.stacks) {
            *slot = stack.as_ptr_range().end as u64;
        }
        self.tss.ist = ist;
        self.tss.io_map = size_of::<Tss>() as u16;
        let base = &raw const self.tss as u64;
        let limit = size_of::<Tss>() as u64 - 1;
        // Present, an available 64-bit TSS.
        let low = limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
        self.gdt[usize::from(TSS) / 8] = low;
        self.gdt[usize::from(TSS) / 8 + 1] = base >> 32;
    }

    /// Sets the stack for exceptions and events in user mode.
    pub(super) fn set_kernel_stack(&mut self, rsp: u64) {
        self.tss.rsp[0] = rsp;
    }

    /// Loads GDT, segments and TSS. FS and GS get the base 0.
    ///
    /// # Safety
    ///
    /// The tables are initialised, live for as long as the vCPU runs, and are no other vCPU's.
    pub(super) unsafe fn load(&mut self) {
        let pointer =
            Pointer { limit: size_of_val(&self.gdt) as u16 - 1, base: self.gdt.as_ptr() as u64 };
        // SAFETY: the descriptors are those of flat segments at the selectors loaded here; the rest
        // is the caller's.
        unsafe {
            asm!(
                "lgdt [{pointer}]",
                "push {cs}",
                "lea {scratch}, [rip + 2f]",
                "push {scratch}",
                "retfq",
                "2:",
                "mov ss, {ss:e}",
                "xor {scratch:e}, {scratch:e}",
                "mov ds, {scratch:e}",
                "mov es, {scratch:e}",
                "mov fs, {scratch:e}",
                "mov gs, {scratch:e}",
                "lldt {scratch:x}",
                "ltr {tss:x}",
                pointer = in(reg) &raw const pointer,
                cs = const KERNEL_CS,
                ss = in(reg) u32::from(KERNEL_SS),
                tss = in(reg) TSS,
                scratch = out(reg) _,
            );
        }
    }
}

struct Slot<T>(UnsafeCell<T>);
// SAFETY: the processor and the functions below are the only users, as they say.
unsafe impl<T> Sync for Slot<T> {}

static BOOT: Slot<CpuTables> = Slot(UnsafeCell::new(CpuTables::EMPTY));
static IDT: Slot<[[u64; 2]; GATES]> = Slot(UnsafeCell::new([[0; 2]; GATES]));

/// The initialised tables of the boot vCPU.
///
/// # Safety
///
/// To be called once.
pub(super) unsafe fn boot() -> &'static mut CpuTables {
    // SAFETY: nobody else uses the slot.
    let tables = unsafe { &mut *BOOT.0.get() };
    tables.init();
    tables
}

/// Writes the gates, which lead to these stubs. The boot vCPU does it before any vCPU loads the table.
pub(super) fn fill_idt(stub: impl Fn(usize) -> u64) {
    for vector in 0..GATES {
        let handler = stub(vector);
        // int3 and into may be used by user programs, the rest only by the kernel.
        let dpl: u64 = if matches!(vector, 3 | 4) { 3 } else { 0 };
        let ist = Ist::of(vector).map_or(0, |stack| stack as u64);
        // Present, an interrupt gate: it clears IF.
        let kind = 0x8e | dpl << 5;
        let low = handler & 0xffff
            | u64::from(KERNEL_CS) << 16
            | ist << 32
            | kind << 40
            | (handler >> 16 & 0xffff) << 48;
        // SAFETY: the index is in the table, which no vCPU has loaded yet.
        unsafe { (*IDT.0.get())[vector] = [low, handler >> 32] };
    }
}

/// Loads the IDT.
///
/// # Safety
///
/// The gates are written, and the vCPU's GDT is loaded.
pub(super) unsafe fn load_idt() {
    let limit = size_of::<[[u64; 2]; GATES]>() as u16 - 1;
    let pointer = Pointer { limit, base: IDT.0.get() as u64 };
    // SAFETY: the gates lead to stubs; the rest is the caller's.
    unsafe { asm!("lidt [{}]", in(reg) &raw const pointer, options(nostack, readonly)) };
}
