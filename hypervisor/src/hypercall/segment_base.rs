//! set_segment_base, stack_switch, fpu_taskswitch: small pieces of vCPU state.

use crate::arch::{fpu, segments};
use crate::domain::ldt;
use crate::domain::vcpu::Vcpu;
use crate::memory::guest::is_canonical;
use pinfold_abi::errno::Errno;
use pinfold_abi::trap::{SEGBASE_FS, SEGBASE_GS_KERNEL, SEGBASE_GS_USER, SEGBASE_GS_USER_SEL};
use x86_64::VirtAddr;

/// `set_segment_base(which, base)`.
pub fn set(vcpu: &mut Vcpu, which: u64, base: u64) -> Result<(), Errno> {
    if which == SEGBASE_GS_USER_SEL {
        load_user_gs(vcpu, base as u16);
        return Ok(());
    }
    if !is_canonical(base) {
        return Err(Errno::EINVAL);
    }
    match which {
        SEGBASE_FS => segments::set_fs_base(VirtAddr::new(base)),
        // Hypercalls come from kernel mode, so the user's base is the inactive one.
        SEGBASE_GS_USER => vcpu.inactive_gs_base = base,
        SEGBASE_GS_KERNEL => segments::set_gs_base(VirtAddr::new(base)),
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// Loads the user's gs selector; its base becomes the inactive one, the kernel's stays active. A
/// selector that can't be loaded becomes null.
fn load_user_gs(vcpu: &mut Vcpu, selector: u16) {
    let live = segments::gs_base();
    // RPL 3, unless null: the guest's own descriptors all have DPL 3.
    let selector = if selector > 3 { selector | 3 } else { selector };
    ldt::map_for_selectors(vcpu, &[selector]);
    segments::load_user_gs(selector);
    vcpu.inactive_gs_base = segments::gs_base();
    segments::set_gs_base(VirtAddr::new(live));
}

/// `stack_switch(ss, rsp)`: the stack for entries from user mode.
pub fn stack_switch(vcpu: &mut Vcpu, ss: u64, rsp: u64) -> Result<(), Errno> {
    vcpu.kernel_stack = (ss as u16 | 3, rsp);
    Ok(())
}

/// `fpu_taskswitch(set)`.
pub fn fpu_taskswitch(vcpu: &mut Vcpu, set: u64) -> Result<(), Errno> {
    vcpu.task_switched = set != 0;
    fpu::set_task_switched(vcpu.task_switched);
    Ok(())
}
