//! Flags of the entries that map granted frames.

use crate::grant::mapping::entry_flags;
use pinfold_abi::grant::MapFlags;
use pinfold_abi::mmu::EntryFlags;

#[test]
fn user_mode_gets_only_mappings_that_were_requested_for_it() {
    let flags = entry_flags(MapFlags::HOST_MAP);
    assert!(!flags.contains(EntryFlags::USER) && flags.contains(EntryFlags::WRITABLE));
    let flags = entry_flags(MapFlags::HOST_MAP | MapFlags::APPLICATION_MAP | MapFlags::READ_ONLY);
    assert!(flags.contains(EntryFlags::USER) && !flags.contains(EntryFlags::WRITABLE));
}
