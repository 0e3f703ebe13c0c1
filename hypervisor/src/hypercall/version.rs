//! xen_version: version, features, and limits of the hypervisor.

use crate::domain::vcpu::Vcpu;
use crate::memory::guest::{self, GuestPtr};
use pinfold_abi::errno::Errno;
use pinfold_abi::layout::{HYPERVISOR_START, PAGE_SIZE};
use pinfold_abi::version::*;

/// Feature bits of word 0: see `pinfold_abi::version`.
const FEATURES: u32 = 1 << 4
    | 1 << XENFEAT_MMU_PT_UPDATE_PRESERVE_AD
    | 1 << XENFEAT_HIGHMEM_ASSIST
    | 1 << XENFEAT_GNTTAB_MAP_AVAIL_BITS
    | 1 << XENFEAT_NOT_DIRECT_MAPPED;

/// Text for the guest, NUL-padded to `N` bytes.
fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let len = text.len().min(N - 1);
    bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
    bytes
}

/// `xen_version(command, argument)`.
#[inline(never)]
pub fn run(vcpu: &Vcpu, command: u64, argument: u64) -> Result<i64, Errno> {
    match command {
        VERSION => return Ok(i64::from(ABI_VERSION)),
        EXTRAVERSION => guest::write_bytes(argument, &padded::<16>(".0-pinfold"))?,
        COMPILE_INFO => {
            let info = CompileInfo {
                compiler: padded("rustc"),
                compile_by: padded(""),
                compile_domain: padded(""),
                compile_date: padded(""),
            };
            GuestPtr::new(argument).write(&info)?;
        }
        CAPABILITIES => guest::write_bytes(argument, &padded::<1024>("xen-3.0-x86_64 "))?,
        CHANGESET => guest::write_bytes(argument, &padded::<64>(env!("CARGO_PKG_VERSION")))?,
        PLATFORM_PARAMETERS => GuestPtr::new(argument).write(&HYPERVISOR_START)?,
        GET_FEATURES => {
            let pointer = GuestPtr::<FeatureInfo>::new(argument);
            let mut info = pointer.read()?;
            if info.submap_idx != 0 {
                return Err(Errno::EINVAL);
            }
            let supervisor = u32::from(vcpu.container.is_some());
            info.submap = FEATURES | supervisor << XENFEAT_SUPERVISOR_MODE_KERNEL;
            pointer.write(&info)?;
        }
        PAGESIZE if argument != 0 => return Err(Errno::EINVAL),
        PAGESIZE => return Ok(PAGE_SIZE as i64),
        GUEST_HANDLE => guest::write_bytes(argument, &[0; 16])?,
        COMMANDLINE => guest::write_bytes(argument, &[0; 1024])?,
        BUILD_ID => return Err(Errno::ENODATA),
        _ => return Err(Errno::ENOSYS),
    }
    Ok(0)
}
