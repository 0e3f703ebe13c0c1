//! The virtual machine control block (VMCB; AMD APM vol. 2, appendix B): what a guest's exits are, and
//! the part of its state that VMRUN and VMLOAD load.

use core::mem::offset_of;
use zerocopy::{FromBytes, FromZeros, Immutable, KnownLayout};

/// A segment register: selector and hidden part.
#[derive(Clone, Copy, Debug, Default, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Segment {
    /// Selector.
    pub selector: u16,
    /// Bits 40 to 47 and 52 to 55 of the descriptor.
    pub attributes: u16,
    /// Limit in bytes.
    pub limit: u32,
    /// Base.
    pub base: u64,
}

impl Segment {
    /// Code in ring 0, 64-bit, with this selector.
    pub const fn kernel_code(selector: u16) -> Segment {
        Segment { selector, attributes: 0xa9b, limit: u32::MAX, base: 0 }
    }

    /// Flat data in ring 0, with this selector.
    pub const fn kernel_data(selector: u16) -> Segment {
        Segment { selector, attributes: 0xc93, limit: u32::MAX, base: 0 }
    }

    /// An empty task state segment: exceptions that need a stack of it fault.
    pub const fn empty_tss() -> Segment {
        Segment { selector: 0, attributes: 0x8b, limit: 0, base: 0 }
    }

    /// No segment: null LDTR, or a GDTR or IDTR with limit 0.
    pub const fn none() -> Segment {
        Segment { selector: 0, attributes: 0, limit: 0, base: 0 }
    }
}

/// The control area: what exits, and what is to be done at the next VMRUN.
#[derive(Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Control {
    pub intercept_cr_reads: u16,
    pub intercept_cr_writes: u16,
    pub intercept_dr_reads: u16,
    pub intercept_dr_writes: u16,
    pub intercept_exceptions: u32,
    pub intercept_misc1: u32,
    pub intercept_misc2: u32,
    pub intercept_misc3: u32,
    reserved_18: [u8; 0x28],
    pub iopm_base: u64,
    pub msrpm_base: u64,
    pub tsc_offset: u64,
    pub asid: u32,
    pub tlb_control: u32,
    /// V_TPR, V_IRQ and its settings, V_INTR_MASKING.
    pub virtual_interrupt: u64,
    pub interrupt_shadow: u64,
    pub exit_code: u64,
    pub exit_info1: u64,
    pub exit_info2: u64,
    pub exit_interrupt_info: u64,
    pub nested_paging: u64,
    reserved_98: [u8; 0x10],
    pub event_injection: u64,
    reserved_b0: [u8; 0x10],
    pub clean: u64,
    pub next_rip: u64,
    reserved_d0: [u8; 0x330],
}

/// The state save area.
#[derive(Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SavedState {
    pub es: Segment,
    pub cs: Segment,
    pub ss: Segment,
    pub ds: Segment,
    pub fs: Segment,
    pub gs: Segment,
    pub gdtr: Segment,
    pub ldtr: Segment,
    pub idtr: Segment,
    pub tr: Segment,
    reserved_a0: [u8; 0x2b],
    pub cpl: u8,
    reserved_cc: [u8; 4],
    pub efer: u64,
    reserved_d8: [u8; 0x70],
    pub cr4: u64,
    pub cr3: u64,
    pub cr0: u64,
    pub dr7: u64,
    pub dr6: u64,
    pub rflags: u64,
    pub rip: u64,
    reserved_180: [u8; 0x58],
    pub rsp: u64,
    reserved_1e0: [u8; 0x18],
    pub rax: u64,
    pub star: u64,
    pub lstar: u64,
    pub cstar: u64,
    pub sfmask: u64,
    pub kernel_gs_base: u64,
    pub sysenter_cs: u64,
    pub sysenter_esp: u64,
    pub sysenter_eip: u64,
    pub cr2: u64,
    reserved_248: [u8; 0x9b8],
}

/// A VMCB: one page.
#[derive(Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
pub struct Vmcb {
    /// Control area.
    pub control: Control,
    /// State save area.
    pub state: SavedState,
}

const _: () = {
    assert!(size_of::<Vmcb>() == 4096);
    assert!(offset_of!(Control, iopm_base) == 0x40);
    assert!(offset_of!(Control, asid) == 0x58);
    assert!(offset_of!(Control, exit_code) == 0x70);
    assert!(offset_of!(Control, nested_paging) == 0x90);
    assert!(offset_of!(Control, event_injection) == 0xa8);
    assert!(offset_of!(Control, clean) == 0xc0);
    assert!(offset_of!(Vmcb, state) == 0x400);
    assert!(offset_of!(SavedState, tr) == 0x90);
    assert!(offset_of!(SavedState, cpl) == 0xcb);
    assert!(offset_of!(SavedState, efer) == 0xd0);
    assert!(offset_of!(SavedState, cr4) == 0x148);
    assert!(offset_of!(SavedState, rip) == 0x178);
    assert!(offset_of!(SavedState, rsp) == 0x1d8);
    assert!(offset_of!(SavedState, rax) == 0x1f8);
    assert!(offset_of!(SavedState, cr2) == 0x240);
};

impl Vmcb {
    /// Makes it all zeros.
    pub fn clear(&mut self) {
        self.zero();
    }
}

/// Bits of [`Control::intercept_misc1`].
pub mod misc1 {
    pub const INTR: u32 = 1 << 0;
    pub const NMI: u32 = 1 << 1;
    pub const INIT: u32 = 1 << 3;
    pub const RDPMC: u32 = 1 << 15;
    pub const CPUID: u32 = 1 << 18;
    pub const RSM: u32 = 1 << 19;
    pub const IRET: u32 = 1 << 20;
    pub const INVD: u32 = 1 << 22;
    pub const HLT: u32 = 1 << 24;
    pub const INVLPGA: u32 = 1 << 26;
    pub const IOIO: u32 = 1 << 27;
    pub const MSR: u32 = 1 << 28;
    pub const TASK_SWITCH: u32 = 1 << 29;
    pub const SHUTDOWN: u32 = 1 << 31;
}

/// Bits of [`Control::intercept_misc2`]: VMRUN, VMMCALL, VMLOAD, VMSAVE, STGI, CLGI, SKINIT; not RDTSCP;
/// ICEBP, WBINVD, MONITOR, MWAIT (always, and if armed), XSETBV, RDPRU.
pub const MISC2: u32 = 0x7f | 0x7f00;
/// Bits of [`Control::intercept_misc3`]: INVLPGB (always, and if illegal), MCOMMIT, TLBSYNC. INVPCID is
/// harmless: it flushes translations of the guest's own ASID.
pub const MISC3: u32 = 0b1_1011;

/// [`Control::virtual_interrupt`]: an interrupt is pending.
pub const V_IRQ: u64 = 1 << 8;
/// [`Control::virtual_interrupt`]: it is pending whatever the TPR.
pub const V_IGN_TPR: u64 = 1 << 20;
/// [`Control::virtual_interrupt`]: RFLAGS.IF of the guest masks only virtual interrupts.
pub const V_INTR_MASKING: u64 = 1 << 24;
/// [`Control::virtual_interrupt`]: lowest bit of the vector.
pub const V_INTR_VECTOR: u32 = 32;

/// [`Control::tlb_control`]: flush the translations of all ASIDs.
pub const TLB_FLUSH_ALL: u32 = 1;

/// [`Control::event_injection`] and [`Control::exit_interrupt_info`]: valid.
pub const EVENT_VALID: u64 = 1 << 31;
/// The same: the event has an error code, in the upper half.
pub const EVENT_HAS_ERROR: u64 = 1 << 11;
/// The same: lowest bit of the event's type.
pub const EVENT_TYPE: u32 = 8;

/// EFER.SVME, which VMRUN demands of the guest's EFER, too.
pub const EFER_SVME: u64 = 1 << 12;
