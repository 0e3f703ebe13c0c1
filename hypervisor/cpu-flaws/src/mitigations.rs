//! What the hypervisor does about the flaws of a CPU.

use crate::features::CpuFeatures;
use crate::flaw::Flaw;
use core::fmt;
use strum::IntoStaticStr;

/// How branch prediction in ring 0 is restricted once at boot, so that no entry needs to do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IbrsMode {
    /// IA32_SPEC_CTRL.IBRS stays set (Intel's enhanced IBRS, AMD's always-on mode).
    SpecCtrl,
    /// EFER.AIBRSE stays set (AMD's automatic IBRS).
    Efer,
}

/// The mitigations in use, decided once at boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mitigations {
    /// Guests run on page tables without the hypervisor's memory. Never set by
    /// [`Mitigations::for_cpu`], but by the code that builds such tables.
    pub isolated_tables: bool,
    /// Page-table entries that aren't present may not hold the address of RAM.
    pub refuse_absent: bool,
    /// IBPB when a CPU switches to another domain.
    pub ibpb: bool,
    /// The return stack buffer is filled on such a switch.
    pub fill_rsb: bool,
    /// The L1 data cache is flushed on such a switch.
    pub flush_l1d: bool,
    /// `verw` on every return to a guest.
    pub clear_buffers: bool,
    /// IBRS, from boot on.
    pub ibrs: Option<IbrsMode>,
    /// The FPU's pointers are overwritten before `fxrstor` (XSA-52).
    pub clear_fpu_pointers: bool,
}

/// Whether `fxrstor` of this FXSAVE area keeps the FPU's pointers on a CPU with
/// [`Flaw::FpuPointers`]: no exception is pending in it (x87 status word, bit 7 ES; AMD APM vol. 2,
/// 11.4.4).
pub const fn fxrstor_keeps_fpu_pointers(area: &[u8; 512]) -> bool {
    const EXCEPTION_SUMMARY: u8 = 1 << 7;
    area[2] & EXCEPTION_SUMMARY == 0
}

/// Flaws that read stale data in buffers that `verw` can clear.
const BUFFERS: [Flaw; 4] = [Flaw::Mds, Flaw::Taa, Flaw::MmioStaleData, Flaw::Rfds];

impl Mitigations {
    /// The mitigations that this CPU needs and has. One that CPUID doesn't announce isn't used,
    /// since its MSR may not exist.
    pub fn for_cpu(cpu: &CpuFeatures) -> Mitigations {
        let verw = cpu.has_md_clear() || cpu.fb_clear() || cpu.rfds_clear();
        let buffers = BUFFERS.iter().any(|&flaw| cpu.has(flaw));
        let branches = cpu.has(Flaw::SpectreV2) || cpu.has(Flaw::Srso) || cpu.has(Flaw::Retbleed);
        let ibrs = if !cpu.has(Flaw::SpectreV2) {
            None
        } else if cpu.is_amd() && cpu.auto_ibrs() {
            Some(IbrsMode::Efer)
        } else if cpu.has_spec_ctrl() && cpu.ibrs_all()
            || cpu.is_amd() && cpu.amd_ibrs() && cpu.amd_ibrs_always_on()
        {
            Some(IbrsMode::SpecCtrl)
        } else {
            None
        };
        Mitigations {
            isolated_tables: false,
            refuse_absent: cpu.has(Flaw::L1tf),
            ibpb: branches && cpu.has_ibpb(),
            fill_rsb: branches,
            flush_l1d: cpu.has(Flaw::L1tf) && cpu.has_l1d_flush() && !cpu.skip_l1dfl_vmentry(),
            clear_buffers: buffers && verw || cpu.has(Flaw::Tsa) && cpu.verw_clear(),
            ibrs,
            clear_fpu_pointers: cpu.has(Flaw::FpuPointers),
        }
    }

    /// Whether there is anything to do when a CPU switches to another domain.
    pub const fn acts_on_switch(&self) -> bool {
        self.ibpb || self.fill_rsb || self.flush_l1d
    }

    /// What is done about a flaw that the CPU has, and what a guest can still attack.
    pub fn action(&self, cpu: &CpuFeatures, flaw: Flaw) -> Action {
        let mut done = Action::default();
        match flaw {
            Flaw::Meltdown => {
                done.add_step(self.isolated_tables, "isolated_tables");
                done.exposure =
                    if self.isolated_tables { Exposure::Nothing } else { Exposure::All };
            }
            Flaw::L1tf => {
                done.add_step(self.refuse_absent, "refuse_absent_entries");
                done.add_step(self.flush_l1d, "l1d_flush");
                // No page-table entry is left to read through.
                done.exposure = if self.refuse_absent { Exposure::Nothing } else { Exposure::All };
            }
            Flaw::Mds | Flaw::Taa | Flaw::MmioStaleData | Flaw::Rfds | Flaw::Tsa => {
                let clears = match flaw {
                    Flaw::Tsa => cpu.verw_clear(),
                    // FB_CLEAR announces that `verw` clears the fill buffers. MD_CLEAR implies it
                    // on CPUs that need it for MDS.
                    Flaw::MmioStaleData => cpu.fb_clear() || cpu.has_md_clear() && !cpu.mds_no(),
                    Flaw::Rfds => cpu.rfds_clear(),
                    _ => cpu.has_md_clear(),
                };
                let cleared = self.clear_buffers && clears;
                done.add_step(cleared, "verw");
                done.exposure = if cleared { Exposure::Hyperthreads } else { Exposure::All };
            }
            Flaw::SpectreV2 => {
                self.add_branch_steps(&mut done);
                done.exposure = self.branch_exposure(self.ibrs.is_some());
            }
            // SSBD is hidden from guests, and not set for the hypervisor.
            Flaw::SpeculativeStoreBypass => done.exposure = Exposure::GuestToHypervisor,
            Flaw::Srso => {
                // IBPB drops all predictions on Zen 1 and 2; on Zen 3 and 4 with new microcode.
                let whole = self.ibpb && (cpu.family < 0x19 || cpu.ibpb_brtype());
                done.add_step(whole, "ibpb");
                let entry = cpu.srso_user_kernel_no();
                done.exposure = if whole { self.branch_exposure(entry) } else { Exposure::All };
            }
            Flaw::Retbleed => {
                self.add_branch_steps(&mut done);
                done.exposure = self.branch_exposure(self.ibrs.is_some() && !cpu.is_amd());
            }
            Flaw::FpuPointers => {
                done.add_step(self.clear_fpu_pointers, "clear_fpu_pointers");
                done.exposure =
                    if self.clear_fpu_pointers { Exposure::Nothing } else { Exposure::All };
            }
        }
        done
    }

    fn add_branch_steps(&self, done: &mut Action) {
        done.add_step(self.ibpb, "ibpb");
        done.add_step(self.fill_rsb, "rsb_fill");
        match self.ibrs {
            Some(IbrsMode::SpecCtrl) => done.add_step(true, "ibrs"),
            Some(IbrsMode::Efer) => done.add_step(true, "auto_ibrs"),
            None => {}
        }
    }

    /// What a guest can still attack by branch prediction. `entry_protected`: ring 3 can't influence
    /// predictions in ring 0.
    const fn branch_exposure(&self, entry_protected: bool) -> Exposure {
        match (self.ibpb, entry_protected) {
            (false, _) => Exposure::All,
            (true, false) => Exposure::GuestToHypervisor,
            (true, true) => Exposure::WithinDomain,
        }
    }
}

/// What a guest can still attack by a flaw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Exposure {
    /// Nothing.
    #[default]
    Nothing,
    /// Itself: the hypervisor doesn't protect a guest's kernel from its user mode.
    WithinDomain,
    /// Whatever runs on the other hyperthread of the same core.
    Hyperthreads,
    /// The hypervisor, and through it all memory.
    GuestToHypervisor,
    /// The hypervisor, and the domain that ran on the CPU before.
    All,
}

impl Exposure {
    /// The name in the log, such as `within_domain`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// What is done about a flaw. Displayed as the names of the steps joined by `+`, or `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    steps: [Option<&'static str>; 3],
    /// What a guest can still attack.
    pub exposure: Exposure,
}

impl Action {
    fn add_step(&mut self, taken: bool, name: &'static str) {
        if taken && let Some(free) = self.steps.iter_mut().find(|step| step.is_none()) {
            *free = Some(name);
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut steps = self.steps.iter().flatten();
        let Some(first) = steps.next() else { return f.write_str("none") };
        f.write_str(first)?;
        steps.try_for_each(|step| write!(f, "+{step}"))
    }
}
