//! The start-of-day page (`struct start_info`, `public/xen.h`).

use crate::error::LayoutError;
use crate::layout::GuestLayout;
use pinfold_abi::address::{Mfn, Pfn};
use pinfold_abi::start_info::{MAGIC, MAX_GUEST_CMDLINE, SIF_MOD_START_PFN, StartInfo};
use zerocopy::FromZeros;

/// Values of the start-of-day page that don't follow from the layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartInfoValues<'a> {
    /// Machine address of the shared info page.
    pub shared_info: u64,
    /// `SIF_*` flags, except those that follow from the layout.
    pub flags: u32,
    /// Event channel of the xenstore ring; 0: none.
    pub store_evtchn: u32,
    /// Event channel of the console ring; 0: none.
    pub console_evtchn: u32,
    /// The command line.
    pub cmdline: &'a str,
}

impl GuestLayout {
    /// Builds the start-of-day page. `mfn_of` returns the machine frame of a pfn.
    ///
    /// # Errors
    /// [`LayoutError::CommandLine`], [`LayoutError::NoMachineFrame`].
    pub fn start_info(
        &self,
        values: &StartInfoValues<'_>,
        mfn_of: impl Fn(Pfn) -> Option<Mfn>,
    ) -> Result<StartInfo, LayoutError> {
        let cmdline = values.cmdline.as_bytes();
        // The last byte is the NUL.
        const MAX: usize = MAX_GUEST_CMDLINE - 1;
        if cmdline.len() > MAX || cmdline.contains(&0) {
            return Err(LayoutError::CommandLine { len: cmdline.len(), max: MAX });
        }
        let ring = |what, pfn: Option<u64>| match pfn {
            Some(pfn) => {
                mfn_of(Pfn::new(pfn)).map(Mfn::get).ok_or(LayoutError::NoMachineFrame { what, pfn })
            }
            None => Ok(0),
        };
        let mut page = StartInfo::new_zeroed();
        page.magic[..MAGIC.len()].copy_from_slice(MAGIC);
        page.nr_pages = self.pages;
        page.shared_info = values.shared_info;
        page.flags = values.flags;
        page.store_mfn = ring("xenstore ring", self.xenstore)?;
        page.store_evtchn = values.store_evtchn;
        page.console_mfn = ring("console ring", self.console)?;
        page.console_evtchn = values.console_evtchn;
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
