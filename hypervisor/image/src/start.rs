//! The start-of-day page: what the plan and the machine tell the guest.

use crate::error::LayoutError;
use crate::layout::Plan;
use pinfold_abi::start_info::{MAGIC, MAX_GUEST_CMDLINE, SIF_MOD_START_PFN, StartInfo};
use zerocopy::FromZeros;

/// What the plan does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts<'a> {
    /// Machine address of the shared page.
    pub shared_info: u64,
    /// `SIF_*` besides those that follow from the plan.
    pub flags: u32,
    /// Event channel of the xenstore ring, 0 for none.
    pub store_evtchn: u32,
    /// Event channel of the console ring, 0 for none.
    pub console_evtchn: u32,
    /// The command line.
    pub cmdline: &'a str,
}

impl Plan {
    /// The contents of the start-of-day page. `mfn_of` gives the machine frame of a pfn.
    pub fn start_info(
        &self,
        facts: &Facts<'_>,
        mfn_of: impl Fn(u64) -> Option<u64>,
    ) -> Result<StartInfo, LayoutError> {
        let cmdline = facts.cmdline.as_bytes();
        // The last byte stays zero: it ends the text.
        const MOST: usize = MAX_GUEST_CMDLINE - 1;
        if cmdline.len() > MOST || cmdline.contains(&0) {
            return Err(LayoutError::CommandLine { len: cmdline.len(), most: MOST });
        }
        let ring = |what, pfn: Option<u64>| match pfn {
            Some(pfn) => mfn_of(pfn).ok_or(LayoutError::NoMachineFrame { what, pfn }),
            None => Ok(0),
        };
        let mut page = StartInfo::new_zeroed();
        page.magic[..MAGIC.len()].copy_from_slice(MAGIC);
        page.nr_pages = self.pages;
        page.shared_info = facts.shared_info;
        page.flags = facts.flags;
        page.store_mfn = ring("xenstore ring", self.xenstore)?;
        page.store_evtchn = facts.store_evtchn;
        page.console_mfn = ring("console ring", self.console)?;
        page.console_evtchn = facts.console_evtchn;
        page.pt_base = self.address(self.tables.first);
        page.nr_pt_frames = self.tables.count();
        page.mfn_list = self.address(self.p2m.start);
        if let Some(initrd) = &self.initrd {
            page.mod_len = initrd.bytes;
            if initrd.mapped {
                page.mod_start = self.address(initrd.pfn);
            } else {
                page.mod_start = initrd.pfn;
                page.flags |= SIF_MOD_START_PFN;
            }
        }
        page.cmd_line[..cmdline.len()].copy_from_slice(cmdline);
        Ok(page)
    }
}
