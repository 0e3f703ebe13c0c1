//! Address space identifiers (ASIDs) of one CPU, for guests in the hardware container.
//!
//! An SVM guest's translations are tagged with the ASID of its VMCB (AMD APM vol. 2, 15.16), and the
//! hypervisor's own, of ASID 0, are separate: a reload of the hypervisor's CR3 flushes none of a guest's.
//! So a flush that the validator relies on ([`Validator::record_flush`]) must reach every ASID that is in
//! use on the CPU. [`AsidSpace::flush_all`] does that without the hardware: it retires all ASIDs, and the
//! next VMRUN of each vCPU takes a number that hasn't been used since the hardware flushed all of them.
//! Translations of a retired ASID stay in the TLB, but nothing runs with it any more. When the numbers run
//! out, the next VMRUN flushes all ASIDs (TLB_CONTROL), and they start again from 1.
//!
//! Within a generation no ASID has two users, so neither two vCPUs nor two roots of one share
//! translations. Everything here belongs to one CPU, which runs it with interrupts disabled: there are no
//! atomic operations. The loom models in `src/models` run it against the validator's flush clock.
//!
//! [`Validator::record_flush`]: pinfold_validator::Validator::record_flush

/// The ASIDs of one CPU.
#[derive(Debug)]
pub struct AsidSpace {
    /// The CPU's number. It is only compared.
    cpu: usize,
    /// Highest ASID that the CPU supports.
    highest: u32,
    /// The next ASID to assign. Above `highest`: all are used up.
    next: u32,
    /// ASIDs assigned in an earlier generation are retired. 2^64 generations never end.
    generation: u64,
    /// The hardware must flush all ASIDs at the next VMRUN.
    flush_pending: bool,
}

/// The ASID of a vCPU: where and when it was assigned. Not `Clone`, so that no two vCPUs have the same.
#[derive(Debug)]
pub struct VcpuAsid(Option<Assignment>);

/// An ASID that was assigned.
#[derive(Debug)]
struct Assignment {
    cpu: usize,
    generation: u64,
    asid: u32,
}

/// What the next VMRUN of a vCPU needs.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "VMRUN with another ASID can use stale translations"]
pub struct Assigned {
    /// The VMCB's guest ASID, at least 1.
    pub asid: u32,
    /// Whether TLB_CONTROL must be 1: flush the entire TLB, all ASIDs (APM vol. 2, table 15-9).
    pub flush_all_asids: bool,
}

impl AsidSpace {
    /// Offset of the number of the generation, a `u64` that [`AsidSpace::flush_all`] increments: for code
    /// that does so in one instruction.
    pub const GENERATION_OFFSET: usize = core::mem::offset_of!(AsidSpace, generation);

    /// The ASIDs of a CPU that supports so many of them, ASID 0 included (`NASID`, CPUID
    /// `8000_000A[EBX]`). The first VMRUN flushes all, since the TLB may hold translations from before the
    /// hypervisor started. `None`: there is no ASID for guests.
    pub const fn new(cpu: usize, supported: u32) -> Option<AsidSpace> {
        let Some(highest) = supported.checked_sub(1) else { return None };
        if highest == 0 {
            return None;
        }
        Some(AsidSpace { cpu, highest, next: 1, generation: 0, flush_pending: true })
    }

    /// Number of the generation. Anything else that a flush ends can be compared with it.
    #[inline]
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// Retires all ASIDs assigned so far. Call it on each flush of guest translations on this CPU that is
    /// recorded in the flush clock, between the tick and the record.
    pub const fn flush_all(&mut self) {
        self.generation += 1;
    }

    /// Returns the ASID for the next VMRUN of a vCPU on this CPU: that of its last one, if it was assigned
    /// here in this generation, or a new one. Call it after the last flush before the VMRUN.
    #[inline]
    pub fn assign(&mut self, vcpu: &mut VcpuAsid) -> Assigned {
        let asid = self.current(vcpu).unwrap_or_else(|| {
            let asid = self.take_next();
            vcpu.0 = Some(Assignment { cpu: self.cpu, generation: self.generation, asid });
            asid
        });
        Assigned { asid, flush_all_asids: self.flush_pending }
    }

    /// The ASID of a vCPU, if this CPU may have usable translations under it.
    #[inline]
    pub fn current(&self, vcpu: &VcpuAsid) -> Option<u32> {
        vcpu.0
            .as_ref()
            .filter(|own| own.cpu == self.cpu && own.generation == self.generation)
            .map(|own| own.asid)
    }

    /// Records that the guest ran: its VMRUN, with what [`AsidSpace::assign`] returned last, was executed
    /// and didn't fail (`VMEXIT_INVALID`). Until then every VMRUN flushes if one must.
    pub const fn record_entry(&mut self) {
        self.flush_pending = false;
    }

    /// Takes the next number. If there is none, all numbers are free again, after a flush by hardware.
    #[inline(never)]
    const fn take_next(&mut self) -> u32 {
        if self.next > self.highest {
            // Numbers of this generation are about to be assigned again, so it ends.
            self.flush_all();
            self.flush_pending = true;
            self.next = 1;
        }
        let asid = self.next;
        self.next += 1;
        asid
    }
}

impl VcpuAsid {
    /// No ASID: the next VMRUN takes a new one.
    pub const fn none() -> VcpuAsid {
        VcpuAsid(None)
    }

    /// Gives up the ASID. Call it when the vCPU's root changes: translations of the old root must not be
    /// used on the new one.
    pub const fn retire(&mut self) {
        self.0 = None;
    }
}

impl Default for VcpuAsid {
    fn default() -> VcpuAsid {
        VcpuAsid::none()
    }
}
