//! Records about a domain: how it starts, what it says, what its frames are, how it ends.

use super::field::record;
use super::value::{Hex, Hex16, Map, Micros, Text, YesNo};
use crate::address::Mfn;

record!(
    /// A domain was built and starts.
    START "", Start<'a> {
        /// Its name in the manifest.
        name: Text<'a> => "name",
        /// Pages of memory.
        pages: u64 => "pages",
        /// vCPUs.
        vcpus: u16 => "vcpus",
        /// Address of its first instruction.
        entry: Hex => "entry",
        /// Frames that the hypervisor keeps for it besides its memory.
        overhead_frames: u64 => "overhead_frames",
        /// Bytes of the hypervisor's heap for each vCPU.
        vcpu_bytes: u64 => "vcpu_bytes",
        /// Time that building took, in microseconds.
        built_in: Micros => "in",
    }
);

record!(
    /// A domain could not be built.
    NOSTART "", NoStart<'a> {
        /// Its name in the manifest.
        name: Text<'a> => "name",
        /// Why not.
        reason: Text<'a> => "reason",
    }
);

record!(
    /// A domain ended by itself.
    SHUTDOWN "", Shutdown<'a> {
        /// Its name in the manifest.
        name: Text<'a> => "name",
        /// `poweroff`, `reboot`, `suspend`, `crash`, `watchdog` or `soft-reset`.
        reason: &'a str => "reason",
        /// Tables that it pinned.
        pins: u64 => "pins",
        /// Pins that were refused.
        refused: u64 => "refused",
        /// Aliases that its pins and updates met.
        aliases: u64 => "aliases",
        /// Pins that went through after its handler had cleared the aliases.
        healed: u64 => "healed",
    }
);

record!(
    /// A domain was ended by the hypervisor. DUMP records with registers and stack follow.
    CRASH "", Crash<'a> {
        /// Its name in the manifest.
        name: Text<'a> => "name",
        /// Why.
        reason: Text<'a> => "reason",
        /// Whether the vCPU was in its `kernel` or `user` mode.
        mode: &'a str => "mode",
        /// Instruction pointer.
        rip: Hex => "rip",
        /// Vector of the last exception.
        vector: u32 => "vector",
        /// Its error code.
        error: Hex => "error",
        /// Address of the last page fault.
        cr2: Hex => "cr2",
        /// Code segment.
        cs: Hex => "cs",
        /// Stack segment.
        ss: Hex => "ss",
        /// Flags.
        rflags: Hex => "rflags",
        /// Machine address of the root table.
        cr3: Hex => "cr3",
    }
);

record!(
    /// A domain that no vCPU runs of was ended by the hypervisor.
    CRASH "", CrashIdle<'a> {
        /// Its name in the manifest.
        name: Text<'a> => "name",
        /// Why.
        reason: Text<'a> => "reason",
    }
);

record!(
    /// The top of a stack that cannot be read.
    DUMP "", DumpUnreadable {
        /// Address.
        stack: Hex => "stack",
        /// `yes`.
        unreadable: YesNo => "unreadable",
    }
);

record!(
    /// Return address of a call of the hypervisor that panicked.
    DUMP "", DumpFrame {
        /// Depth: 0 is where it panicked.
        frame: u32 => "frame",
        /// The address.
        rip: Hex => "rip",
    }
);

record!(
    /// A line that the guest asked for with [`Mark`](crate::pinfold::Mark).
    MARK "", MarkText<'a> {
        /// The text.
        text: Text<'a> => "text",
    }
);

record!(
    /// What some frames of a domain are in use as.
    FRAMES "", FrameUses<'a> {
        /// The first frame.
        first: Mfn => "first",
        /// How many.
        frames: u64 => "frames",
        /// Runs of frames in equal use: see [`crate::frame_map`].
        map: Map<'a> => "map",
    }
);

record!(
    /// Records were left out.
    DROPPED "", Dropped<'a> {
        /// How many.
        records: u64 => "records",
        /// `rate_limit` or `buffer_full`.
        cause: &'a str => "cause",
        /// Whose room in the buffer was full: `hypervisor`, `messages`, `lifecycle`, `reports`,
        /// `console`.
        source: Option<&'a str> => "of",
    }
);

/// Four words of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpStack {
    /// Address of the first.
    pub stack: Hex,
    /// The words.
    pub words: [Hex16; 4],
}

impl core::fmt::Display for DumpStack {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let [first, second, third, fourth] = self.words;
        write!(f, "stack={} words={first},{second},{third},{fourth}", self.stack)
    }
}
