//! Records about the machine: its processors, the keyboard, and how the run ends.

use super::Who;
use super::field::record;
use super::value::{Hex, OnOff, Text, Word, YesNo};

record!(
    /// Whether the hypervisor's memory is left out of the tables that guests run on.
    INFO "", IsolationMode<'a> {
        /// Whether it is left out.
        active: OnOff => "isolation",
        /// What the manifest wants: `auto`, `on` or `off`.
        wanted: &'a str => "wanted",
    }
);

record!(
    /// What a processor's guest roots map of the hypervisor, at the end of a run.
    INFO "", IsolationCheck {
        /// `on`: there is no such record otherwise.
        active: OnOff => "isolation",
        /// Number of the processor.
        cpu: u64 => "cpu",
        /// Pages of the hypervisor that guests run with.
        mapped_pages: u64 => "mapped_pages",
        /// Times that a root was copied.
        filled: u64 => "filled",
    }
);

record!(
    /// A flaw of the processors, and what is done about it.
    INFO "cpu", CpuFlaw<'a> {
        /// Its name.
        flaw: &'a str => "flaw",
        /// Whether the processors have it.
        affected: YesNo => "affected",
        /// What is done, `+` between the steps, or `none`.
        action: Word<'a> => "action",
        /// What stays open in spite of it.
        open: Option<&'a str> => "open",
        /// Why the processors are not affected.
        reason: Option<Text<'a>> => "reason",
    }
);

record!(
    /// What was done at switches between domains, at the end of a run.
    INFO "", Switches {
        /// Number of the processor.
        cpu: u64 => "cpu",
        /// Switches between domains.
        domain_switches: u64 => "domain_switches",
        /// Indirect-branch prediction barriers.
        ibpb: u64 => "ibpb",
        /// Return-stack-buffer fills.
        rsb_fill: u64 => "rsb_fill",
        /// L1 data cache flushes.
        l1d_flush: u64 => "l1d_flush",
    }
);

record!(
    /// How long a processor kept others waiting at most, over the whole run. The `_at` fields name
    /// what it was busy with.
    LATENCY "", Latency<'a> {
        /// Number of the processor.
        cpu: u64 => "cpu",
        /// Longest time without servicing IPIs, in microseconds.
        ipi_us: u64 => "ipi_us",
        /// What it did then.
        ipi_at: &'a str => "ipi_at",
        /// Longest time with interrupts off, in microseconds.
        irq_off_us: u64 => "irq_off_us",
        /// What it did then.
        irq_off_at: &'a str => "irq_off_at",
        /// Longest time without a look at the scheduler and the timers, in microseconds.
        sched_us: u64 => "sched_us",
        /// What it did then.
        sched_at: &'a str => "sched_at",
    }
);

record!(
    /// Who has the keyboard now.
    INPUT "", InputTo<'a> {
        /// `hv` or a domain.
        to: Who => "to",
        /// The domain's name.
        name: Option<Text<'a>> => "name",
        /// Keys that the hypervisor answers to.
        keys: Option<Text<'a>> => "keys",
    }
);

record!(
    /// A domain in the list that the hypervisor's key `d` asks for.
    INPUT "", InputDomain<'a> {
        /// The domain.
        domain: Who => "domain",
        /// Its name.
        name: Text<'a> => "name",
    }
);

record!(
    /// Keys that the hypervisor answers to: the answer to any other key.
    INPUT "", InputKeys<'a> {
        /// The keys.
        keys: Text<'a> => "keys",
    }
);

record!(
    /// The hypervisor met an exception of its own that it does not expect. DUMP records follow. A
    /// panic of its code has free text instead.
    PANIC "", PanicTrap {
        /// Vector of the exception.
        trap: u32 => "trap",
        /// Its error code.
        error: Hex => "error",
        /// Instruction pointer.
        rip: Hex => "rip",
        /// Stack pointer.
        rsp: Hex => "rsp",
        /// Flags.
        rflags: Hex => "rflags",
        /// Address of the last page fault.
        cr2: Hex => "cr2",
    }
);

record!(
    /// The last record of a run: how many guests ended how.
    END "", End {
        /// Guests of the manifest.
        guests: u64 => "guests",
        /// Those that powered off or asked for a reboot.
        ok: u64 => "ok",
        /// Those that ended with another reason.
        failed: u64 => "failed",
        /// Those that the hypervisor ended, or could not start.
        crashed: u64 => "crashed",
        /// Aliases of all of them.
        aliases: u64 => "aliases",
    }
);
