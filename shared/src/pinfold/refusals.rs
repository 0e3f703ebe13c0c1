//! Why a command of `pinfold_op` is refused: one constant a reason, one list a command.
//!
//! `docs/pinfold_op/` has a page for each command; a test holds its list of refusals against the
//! one here.

use super::Command;
use crate::errno::Errno;

/// A reason to refuse a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the call returns.
    pub errno: Errno,
    /// When it does.
    pub reason: &'static str,
}

impl From<Refusal> for Errno {
    fn from(refusal: Refusal) -> Errno {
        refusal.errno
    }
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident: $errno:ident, $reason:literal;)*) => {$(
        $(#[$doc])*
        #[doc = $reason]
        pub const $name: Refusal = Refusal { errno: Errno::$errno, reason: $reason };
    )*};
}

refusals! {
    BAD_ADDRESS: EFAULT, "The argument, or memory that it points to, is not readable or writable.";
    BAD_VERSION: EINVAL, "The command does not support the version.";
    NOT_PERMITTED: EPERM, "The domain does not have the right to diagnose.";
    NO_MEMORY: ENOMEM, "There are not enough free frames for the counters.";
    TOO_MANY_RANGES: E2BIG, "There are more than `MAX_SHOOTDOWN_RANGES` ranges.";
    TOO_MANY_PAGES: E2BIG, "The ranges have more than 2^24 pages together.";
    BAD_PAGE_RANGE: EINVAL, "A range is not page-aligned, or not in the guest's part of the address space.";
    TABLE_FULL: EINVAL, "The reference count of a table in a range is at its maximum.";
    BAD_RESUME: EINVAL, "The arguments of the continuation are forged.";
    TOO_MANY_FRAMES: E2BIG, "There are more than `MAX_FIND_FRAMES` frames.";
    NOT_OWN_FRAME: EPERM, "A frame is not the caller's own.";
    BAD_ACTION: EINVAL, "The action is neither `REGION_ADD` nor `REGION_REMOVE`.";
    BAD_REGION: EINVAL, "The range is empty, not page-aligned, or not in the guest's part of the address space.";
    REGION_OVERLAPS: EEXIST, "The range overlaps a named range.";
    TOO_MANY_REGIONS: ENOSPC, "The domain already has `MAX_REGIONS` named ranges.";
    NO_SUCH_REGION: ENOENT, "No named range starts at this address.";
    MARK_TOO_LONG: E2BIG, "The text is longer than `MAX_MARK`.";
    BAD_HANDLER: EINVAL, "The handler or the buffer is not in the guest's part of the address space.";
    BAD_ROOM: EINVAL, "`room` is 0 or above `MAX_UPCALL_MAPPINGS`.";
}

impl Command {
    /// Every reason for which the command is refused. Besides, a command that does not exist is
    /// [`Errno::ENOSYS`].
    pub const fn refusals(self) -> &'static [Refusal] {
        match self {
            Command::Version | Command::Stats => &[BAD_ADDRESS, BAD_VERSION],
            Command::Shootdown => &[
                BAD_ADDRESS,
                BAD_VERSION,
                TOO_MANY_RANGES,
                TOO_MANY_PAGES,
                BAD_PAGE_RANGE,
                TABLE_FULL,
                BAD_RESUME,
            ],
            Command::FindAliases => {
                &[BAD_ADDRESS, BAD_VERSION, TOO_MANY_FRAMES, NOT_OWN_FRAME, BAD_RESUME]
            }
            Command::LazyRegion => &[
                BAD_ADDRESS,
                BAD_VERSION,
                BAD_ACTION,
                BAD_REGION,
                REGION_OVERLAPS,
                TOO_MANY_REGIONS,
                NO_SUCH_REGION,
            ],
            Command::Mark => &[BAD_ADDRESS, BAD_VERSION, MARK_TOO_LONG],
            Command::Audit => &[BAD_ADDRESS, BAD_VERSION, NOT_PERMITTED, NO_MEMORY],
            Command::AliasUpcall => &[BAD_ADDRESS, BAD_VERSION, BAD_HANDLER, BAD_ROOM],
            Command::FreedMap => &[BAD_ADDRESS, BAD_VERSION, NO_SUCH_REGION],
            Command::DumpFrames => &[BAD_ADDRESS, BAD_VERSION, NOT_PERMITTED],
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::String;
    use std::vec::Vec;

    const PAGES: [(Command, &str); 10] = [
        (Command::Version, include_str!("../../../docs/pinfold_op/version.md")),
        (Command::Shootdown, include_str!("../../../docs/pinfold_op/shootdown.md")),
        (Command::FindAliases, include_str!("../../../docs/pinfold_op/find_aliases.md")),
        (Command::LazyRegion, include_str!("../../../docs/pinfold_op/lazy_region.md")),
        (Command::Mark, include_str!("../../../docs/pinfold_op/mark.md")),
        (Command::Stats, include_str!("../../../docs/pinfold_op/stats.md")),
        (Command::Audit, include_str!("../../../docs/pinfold_op/audit.md")),
        (Command::AliasUpcall, include_str!("../../../docs/pinfold_op/alias_upcall.md")),
        (Command::FreedMap, include_str!("../../../docs/pinfold_op/freed_map.md")),
        (Command::DumpFrames, include_str!("../../../docs/pinfold_op/dump_frames.md")),
    ];

    #[test]
    fn each_page_lists_the_refusals_of_its_command() {
        for (number, (command, page)) in (0..).zip(PAGES) {
            assert_eq!(Command::from_number(number), Some(command));
            let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `-E")).collect();
            let expected: Vec<String> = command
                .refusals()
                .iter()
                .map(|refusal| std::format!("| `{}` | {} |", refusal.errno, refusal.reason))
                .collect();
            assert_eq!(rows, expected, "{command:?}");
        }
        assert_eq!(Command::from_number(PAGES.len() as u64), None);
    }
}
