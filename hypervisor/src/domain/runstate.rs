//! A vCPU's runstate: how long it was running, runnable, blocked and offline (`public/vcpu.h`).

use crate::memory::guest;
use crate::time::clock;
use pinfold_abi::vcpu::*;
use pinfold_validator::{DomId, Mfn};
use zerocopy::IntoBytes;

/// A state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// Running on a CPU.
    Running = RUNSTATE_RUNNING,
    /// Waiting for a CPU.
    Runnable = RUNSTATE_RUNNABLE,
    /// Waiting for an event.
    Blocked = RUNSTATE_BLOCKED,
    /// Offline.
    Offline = RUNSTATE_OFFLINE,
}

/// The record, and the guest address of a copy, if one is registered.
#[derive(Debug)]
pub struct Runstate {
    info: RunstateInfo,
    area: Option<u64>,
}

impl Default for Runstate {
    fn default() -> Runstate {
        Runstate {
            info: RunstateInfo { state: RUNSTATE_OFFLINE, ..RunstateInfo::default() },
            area: None,
        }
    }
}

impl Runstate {
    /// Changes the state.
    pub fn enter(&mut self, state: State) {
        let now = clock::now_ns();
        let spent = now.saturating_sub(self.info.state_entry_time);
        self.info.time[self.info.state as usize] += spent;
        self.info.state = state as u32;
        self.info.state_entry_time = now;
    }

    /// The record as of now.
    pub fn read(&self) -> RunstateInfo {
        let mut info = self.info;
        info.time[info.state as usize] += clock::now_ns().saturating_sub(info.state_entry_time);
        info
    }

    /// Registers a guest address for copies.
    pub fn set_area(&mut self, address: u64) {
        self.area = Some(address);
    }

    /// Writes the registered copy through the kernel root `root`. A page that can't be written is
    /// skipped. `announced`: the copy is flagged while it is being updated (XEN_RUNSTATE_UPDATE).
    pub fn publish(&self, domain: DomId, root: Mfn, announced: bool) {
        let Some(area) = self.area else { return };
        let mut info = self.info;
        if !announced {
            let _ = guest::write_by_root(domain, root, area, info.as_bytes());
            return;
        }
        let time_at =
            area.wrapping_add(core::mem::offset_of!(RunstateInfo, state_entry_time) as u64);
        let time = info.state_entry_time;
        info.state_entry_time |= RUNSTATE_UPDATE;
        let mark = info.state_entry_time.to_ne_bytes();
        // Each step is a write of its own, in this order; x86 keeps the order of stores.
        let _ = guest::write_by_root(domain, root, time_at, &mark);
        let _ = guest::write_by_root(domain, root, area, info.as_bytes());
        let _ = guest::write_by_root(domain, root, time_at, &time.to_ne_bytes());
    }
}
