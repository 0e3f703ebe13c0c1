//! Which bits an entry may have at each level: each bit is flipped in an entry that is valid without
//! it, once in a table that is then pinned and once by an update of a live table.

use crate::report::{Answer, Report};
use pinfold_guest::addr::Pfn;
use pinfold_guest::fixtures::{RO, RW, TableFixture};
use pinfold_guest::raw;

/// Flags and software bits, except the present bit.
const FLAGS: u64 = 0xfff0_0000_0000_0ffe;
/// Address bits beyond the physical memory of any test machine.
const ADDRESS: u64 = 0x000f_f000_0000_0000;

const KEYS: [[&str; 10]; 4] = [
    [
        "entry.l1.pin_refused_flags",
        "entry.l1.pin_refused_flags_errno",
        "entry.l1.pin_refused_address",
        "entry.l1.pin_refused_address_errno",
        "entry.l1.update_refused_flags",
        "entry.l1.update_refused_flags_errno",
        "entry.l1.update_refused_address",
        "entry.l1.update_refused_address_errno",
        "entry.l1.added",
        "entry.l1.write_back",
    ],
    [
        "entry.l2.pin_refused_flags",
        "entry.l2.pin_refused_flags_errno",
        "entry.l2.pin_refused_address",
        "entry.l2.pin_refused_address_errno",
        "entry.l2.update_refused_flags",
        "entry.l2.update_refused_flags_errno",
        "entry.l2.update_refused_address",
        "entry.l2.update_refused_address_errno",
        "entry.l2.added",
        "entry.l2.write_back",
    ],
    [
        "entry.l3.pin_refused_flags",
        "entry.l3.pin_refused_flags_errno",
        "entry.l3.pin_refused_address",
        "entry.l3.pin_refused_address_errno",
        "entry.l3.update_refused_flags",
        "entry.l3.update_refused_flags_errno",
        "entry.l3.update_refused_address",
        "entry.l3.update_refused_address_errno",
        "entry.l3.added",
        "entry.l3.write_back",
    ],
    [
        "entry.l4.pin_refused_flags",
        "entry.l4.pin_refused_flags_errno",
        "entry.l4.pin_refused_address",
        "entry.l4.pin_refused_address_errno",
        "entry.l4.update_refused_flags",
        "entry.l4.update_refused_flags_errno",
        "entry.l4.update_refused_address",
        "entry.l4.update_refused_address_errno",
        "entry.l4.added",
        "entry.l4.write_back",
    ],
];

/// Tries each of these bits. Returns those that are refused, and the errors.
fn refused(bits: u64, mut attempt: impl FnMut(u64) -> i64) -> (u64, Errnos) {
    let (mut mask, mut errnos) = (0, Errnos::default());
    for bit in (0..64).map(|bit| 1u64 << bit).filter(|bit| bits & bit != 0) {
        let result = attempt(bit);
        if result != 0 {
            mask |= bit;
            errnos.note(result);
        }
    }
    (mask, errnos)
}

/// The errors seen: none, one or several.
#[derive(Default)]
struct Errnos {
    first: i64,
    several: bool,
}

impl Errnos {
    fn note(&mut self, result: i64) {
        self.several |= self.first != 0 && self.first != result;
        self.first = result;
    }
}

impl core::fmt::Display for Errnos {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.several { f.write_str("several") } else { Answer(self.first).fmt(f) }
    }
}

/// Returns a valid entry for a table of this level.
fn base(fixture: &mut TableFixture, level: u8) -> u64 {
    let leaf = fixture.frame();
    if level == 1 {
        return fixture.entry(leaf, RO);
    }
    let below = fixture.chain(level - 1, leaf);
    fixture.entry(below[0], RW)
}

/// Reports all levels.
pub(crate) fn probe(fixture: &mut TableFixture, report: &mut Report) {
    for level in 1..=4u8 {
        let saved = fixture.save();
        let good = base(fixture, level);
        let keys = &KEYS[usize::from(level - 1)];

        let table = fixture.frame();
        for (kind, bits) in [FLAGS, ADDRESS].into_iter().enumerate() {
            let (mask, errnos) = refused(bits, |bit| {
                fixture.unseal(table);
                fixture.set(table, 5, good ^ bit);
                fixture.seal(table);
                let result = fixture.pin(table, level);
                fixture.unpin(table);
                result
            });
            report.say(keys[kind * 2], format_args!("{mask:#x}"));
            report.say(keys[kind * 2 + 1], errnos);
        }

        fixture.unseal(table);
        fixture.set(table, 5, 0);
        fixture.seal(table);
        fixture.pin(table, level);
        let at = fixture.entry_addr(table, 5);
        // SAFETY: fixture frames only.
        let update = |val: u64| unsafe { raw::mmu_update(at, val) };
        for (kind, bits) in [FLAGS, ADDRESS].into_iter().enumerate() {
            let (mask, errnos) = refused(bits, |bit| {
                update(0);
                update(good ^ bit)
            });
            report.say(keys[4 + kind * 2], format_args!("{mask:#x}"));
            report.say(keys[5 + kind * 2], errnos);
        }

        update(good);
        report.say(keys[8], format_args!("{:#x}", fixture.get(table, 5) ^ good));
        // What was read may be written back, with or without a changed software bit.
        let stored = fixture.get(table, 5);
        let both = [update(stored), update(stored | 1 << 9), update(stored)];
        report.say(keys[9], both == [0; 3]);
        if level == 1 {
            leaves(fixture, report, table, good);
        }
        fixture.restore(saved);
    }
}

/// Reports the bits that the hypervisor adds to leaf entries of user pages, global or not.
fn leaves(fixture: &TableFixture, report: &mut Report, table: Pfn, good: u64) {
    let at = fixture.entry_addr(table, 6);
    for (key, flags) in [
        ("entry.l1.user_added", 4u64),
        ("entry.l1.user_global_added", 4 | 1 << 8),
        ("entry.l1.global_added", 1 << 8),
        ("entry.l1.nx_added", 1 << 63),
        ("entry.l1.software_added", 7 << 9 | 0x7ff << 52),
    ] {
        // SAFETY: fixture frames only.
        let result = unsafe { raw::mmu_update(at, good | flags) };
        if result == 0 {
            report.say(key, format_args!("{:#x}", fixture.get(table, 6) ^ (good | flags)));
        } else {
            report.call(key, result);
        }
    }
}
