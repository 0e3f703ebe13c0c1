//! What the hypervisor does on a CPU with these flaws.

use crate::facts::CpuFacts;
use crate::flaw::Flaw;
use core::fmt;

/// How indirect branches of ring 0 are kept from what ring 3 trained, without a step on each entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IbrsMode {
    /// IA32_SPEC_CTRL.IBRS stays set (Intel's enhanced IBRS, AMD's always-on mode).
    SpecCtrl,
    /// EFER.AIBRSE stays set (AMD's automatic IBRS).
    Efer,
}

/// What is to be done, decided once at boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mitigations {
    /// Guests run on tables without the hypervisor's memory. The plan never sets it: whoever builds
    /// such tables does.
    pub isolated_tables: bool,
    /// Entries that aren't present may not name RAM.
    pub refuse_absent: bool,
    /// IBPB when a processor goes from one domain to another.
    pub ibpb: bool,
    /// The return stack is filled then.
    pub fill_rsb: bool,
    /// The L1 data cache is flushed then.
    pub flush_l1d: bool,
    /// `verw` on every way back to a guest.
    pub clear_buffers: bool,
    /// IBRS, from boot on.
    pub ibrs: Option<IbrsMode>,
    /// The FPU's pointers are overwritten before a state is loaded (XSA-52).
    pub clear_fpu_pointers: bool,
}

/// Whether loading an area of FXSAVE leaves the FPU's pointers alone, on a CPU with
/// [`Flaw::FpuPointers`]: no exception is pending in it (status word, bit 7; AMD APM vol. 2, 11.4.4).
pub const fn leaves_fpu_pointers(area: &[u8; 512]) -> bool {
    area[2] & 1 << 7 == 0
}

/// Flaws that read what is left in buffers which `verw` clears.
const BUFFERS: [Flaw; 4] = [Flaw::Mds, Flaw::Taa, Flaw::MmioStaleData, Flaw::Rfds];

impl Mitigations {
    /// What this CPU needs and lists. A step that the CPU doesn't list isn't taken: its MSR may
    /// not be there.
    pub fn plan(cpu: &CpuFacts) -> Mitigations {
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

    /// Whether anything is to be done when a processor goes from one domain to another.
    pub const fn acts_on_switch(&self) -> bool {
        self.ibpb || self.fill_rsb || self.flush_l1d
    }

    /// What is done about a flaw that the CPU has, and what stays open.
    pub fn action(&self, cpu: &CpuFacts, flaw: Flaw) -> Action {
        let mut done = Action::default();
        match flaw {
            Flaw::Meltdown => {
                done.step(self.isolated_tables, "isolated_tables");
                done.open = if self.isolated_tables { Open::Nothing } else { Open::All };
            }
            Flaw::L1tf => {
                done.step(self.refuse_absent, "refuse_absent_entries");
                done.step(self.flush_l1d, "l1d_flush");
                // Without an entry to read through there is nothing to attack with.
                done.open = if self.refuse_absent { Open::Nothing } else { Open::All };
            }
            Flaw::Mds | Flaw::Taa | Flaw::MmioStaleData | Flaw::Rfds | Flaw::Tsa => {
                let clears = match flaw {
                    Flaw::Tsa => cpu.verw_clear(),
                    // Each is cleared by what its own bit promises, or by MD_CLEAR's on a CPU whose
                    // microcode came with it.
                    Flaw::MmioStaleData => cpu.fb_clear() || cpu.has_md_clear() && !cpu.mds_no(),
                    Flaw::Rfds => cpu.rfds_clear(),
                    _ => cpu.has_md_clear(),
                };
                let cleared = self.clear_buffers && clears;
                done.step(cleared, "verw");
                done.open = if cleared { Open::Hyperthreads } else { Open::All };
            }
            Flaw::SpectreV2 => {
                self.branch_steps(&mut done);
                done.open = self.open_branches(self.ibrs.is_some());
            }
            // Guests are not shown SSBD; the hypervisor's own loads aren't held back.
            Flaw::SpeculativeStoreBypass => done.open = Open::GuestToHypervisor,
            Flaw::Srso => {
                // Zen 1 and 2 drop all predictions by IBPB; Zen 3 and 4 with new microcode.
                let whole = self.ibpb && (cpu.family < 0x19 || cpu.ibpb_brtype());
                done.step(whole, "ibpb");
                let entry = cpu.srso_user_kernel_no();
                done.open = if whole { self.open_branches(entry) } else { Open::All };
            }
            Flaw::Retbleed => {
                self.branch_steps(&mut done);
                done.open = self.open_branches(self.ibrs.is_some() && !cpu.is_amd());
            }
            Flaw::FpuPointers => {
                done.step(self.clear_fpu_pointers, "clear_fpu_pointers");
                done.open = if self.clear_fpu_pointers { Open::Nothing } else { Open::All };
            }
        }
        done
    }

    fn branch_steps(&self, done: &mut Action) {
        done.step(self.ibpb, "ibpb");
        done.step(self.fill_rsb, "rsb_fill");
        match self.ibrs {
            Some(IbrsMode::SpecCtrl) => done.step(true, "ibrs"),
            Some(IbrsMode::Efer) => done.step(true, "auto_ibrs"),
            None => {}
        }
    }

    /// What stays open of a flaw of branch prediction; `entry`: ring 0 is out of reach of what ring
    /// 3 trained.
    const fn open_branches(&self, entry: bool) -> Open {
        match (self.ibpb, entry) {
            (false, _) => Open::All,
            (true, false) => Open::GuestToHypervisor,
            (true, true) => Open::WithinDomain,
        }
    }
}

/// What a guest can still attack by a flaw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Open {
    /// Nothing.
    #[default]
    Nothing,
    /// Itself: its kernel is not kept from its users by the hypervisor.
    WithinDomain,
    /// Whoever runs on the other hyperthread of its core.
    Hyperthreads,
    /// The hypervisor, and by it the memory of all.
    GuestToHypervisor,
    /// The hypervisor and the domain that ran before.
    All,
}

impl Open {
    /// As it is in the log.
    pub const fn name(self) -> &'static str {
        match self {
            Open::Nothing => "nothing",
            Open::WithinDomain => "within_domain",
            Open::Hyperthreads => "hyperthreads",
            Open::GuestToHypervisor => "guest_to_hypervisor",
            Open::All => "all",
        }
    }
}

/// What is done about a flaw. Displayed as the steps' names with `+` between them, or `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Action {
    steps: [Option<&'static str>; 3],
    /// What stays open.
    pub open: Open,
}

impl Action {
    fn step(&mut self, taken: bool, name: &'static str) {
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
