//! `xen_version`: version and features of the hypervisor.

use super::{Errno, address, call, check};
use pinfold_abi::{hypercall::Hypercall, version};

/// The ABI's version: major and minor.
pub fn version() -> Result<(u16, u16), Errno> {
    // SAFETY: the call takes no pointer.
    let both =
        check(unsafe { call(Hypercall::XenVersion as u64, [version::VERSION, 0, 0, 0, 0]) })?;
    Ok(((both >> 16) as u16, both as u16))
}

/// The text behind the version number, NUL-padded.
pub fn extra() -> Result<[u8; 16], Errno> {
    let mut text = [0; 16];
    let args = [version::EXTRAVERSION, address(&raw mut text), 0, 0, 0];
    // SAFETY: the call writes at most 16 bytes there.
    check(unsafe { call(Hypercall::XenVersion as u64, args) })?;
    Ok(text)
}

/// One word of the feature bits.
pub fn features(word: u32) -> Result<u32, Errno> {
    let mut info = version::FeatureInfo { submap_idx: word, submap: 0 };
    let args = [version::GET_FEATURES, address(&raw mut info), 0, 0, 0];
    // SAFETY: the call reads and writes this structure.
    check(unsafe { call(Hypercall::XenVersion as u64, args) })?;
    Ok(info.submap)
}
