//! Dumps the type and use of a domain's frames to the log.

use crate::arch::ipi;
use crate::console::log::write_record;
use crate::domain::Domain;
use crate::memory::validator;
use arrayvec::ArrayVec;
use pinfold_abi::frame_map::{Run, Use};
use pinfold_abi::record::{FrameUses, Map};
use pinfold_validator::{DomId, FrameInfo, Kind, Mfn, State};

/// Frames that one record covers at most.
const FRAMES: u64 = 4096;
/// Runs in one record at most, so that a line stays below 512 bytes.
const RUNS: usize = 48;

/// Runs of frames of the same kind, for one record.
#[derive(Default)]
struct Row(ArrayVec<Run, RUNS>);

impl Row {
    /// Adds a frame; `false` if there is no room.
    fn add(&mut self, usage: Use) -> bool {
        match self.0.last_mut() {
            Some(run) if run.usage == usage => {
                run.frames += 1;
                true
            }
            _ => self.0.try_push(Run { usage, frames: 1 }).is_ok(),
        }
    }
}

/// Frames of others that one step may skip.
const PASSED_OVER: u64 = 1 << 16;

/// A dump in progress: FRAMES records for all frames of a domain, as far as its log limit allows. While
/// the domain runs, frames change during the dump.
#[derive(Debug)]
pub struct FrameDump {
    next: u64,
    told: u64,
}

impl FrameDump {
    /// A dump that begins with the first frame.
    pub const fn new() -> FrameDump {
        FrameDump { next: 0, told: 0 }
    }

    /// A dump that continues at a frame, after so many that were written.
    pub const fn from(next: Mfn, told: u64) -> FrameDump {
        FrameDump { next: next.get(), told }
    }

    /// The next frame.
    pub const fn next(&self) -> Mfn {
        Mfn::new(self.next)
    }

    /// Frames written so far.
    pub const fn told(&self) -> u64 {
        self.told
    }

    /// Writes one record at most. True if it was the last.
    pub fn step(&mut self, domain: &Domain) -> bool {
        let end = validator().frame_count();
        let until = end.min(self.next.saturating_add(PASSED_OVER));
        while self.next < until && validator().owner(Mfn::new(self.next)) != Some(domain.id) {
            self.next += 1;
        }
        if self.next >= end {
            return true;
        }
        if self.next == until {
            return false;
        }
        let first = Mfn::new(self.next);
        let mut row = Row::default();
        let mut frames = 0;
        while frames < FRAMES {
            let Some(usage) = usage(Mfn::new(first.get() + frames), domain.id) else { break };
            if !row.add(usage) {
                break;
            }
            frames += 1;
        }
        if !domain.log_limit.allows() {
            return true;
        }
        // Skipped, if it changed its owner meanwhile.
        if frames > 0 {
            let map = Map::Items(&row.0);
            write_record(domain.who(), &FrameUses { first, frames, map });
        }
        self.told = self.told.saturating_add(frames);
        self.next += frames.max(1);
        false
    }
}

/// Dumps a domain's frames at once, on the operator's request.
pub fn write(domain: &Domain) {
    let mut dump = FrameDump::new();
    while !dump.step(domain) {
        ipi::service_ipis();
    }
}

/// How a frame is used, if it is the domain's.
fn usage(mfn: Mfn, domain: DomId) -> Option<Use> {
    let info = validator().info(mfn).filter(|info| info.owner() == Some(domain))?;
    Some(if info.is_shared() { Use::Shared } else { by_type(&info) })
}

fn by_type(info: &FrameInfo) -> Use {
    match (info.state(), info.kind(), info.kind().level()) {
        (State::Idle, ..) => Use::Idle,
        (_, Kind::Writable, _) => Use::Writable,
        (_, Kind::Descriptor, _) => Use::Descriptors,
        (State::Validated, _, Some(level)) => Use::Table(level as u8),
        _ => Use::Unfinished,
    }
}
