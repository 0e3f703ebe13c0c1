//! Page tables that map themselves, changed by several vCPUs at once: by calls, and by plain stores
//! that the hypervisor emulates.

use crate::Plan;
use crate::pages::{FLUSH_ALL, Page, Pages, call, update};
use crate::sync::{self, VcpuPool};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_abi::hypercall::Hypercall;
use pinfold_abi::mmu::{
    ENTRY_ADDRESS, VMASST_CMD_DISABLE, VMASST_CMD_ENABLE, VMASST_TYPE_WRITABLE_PAGETABLES,
};
use pinfold_guest::fixtures::{Check, RO, RW, Random};
use pinfold_guest::println;

pub(crate) fn run(pool: &VcpuPool, pages: &Pages, plan: &Plan, check: &mut Check) {
    let &[table, first, second, other, ..] = pages.0.as_slice() else { return };
    let assist =
        |command| call(Hypercall::VmAssist, [command, VMASST_TYPE_WRITABLE_PAGETABLES, 0, 0, 0]);
    check.equal("writable page tables are on", assist(VMASST_CMD_ENABLE), 0);
    // The table maps itself read-only, and another address maps it too.
    table.set(0, table.entry(RO));
    check.equal("seal", table.put(table.entry(RO), FLUSH_ALL), 0);
    check.equal("pin", table.pin(1), 0);
    check.equal("a second address", other.put(table.entry(RO), FLUSH_ALL), 0);
    entries(pool, [table, first, second, other], plan, check);
    places(pool, [table, first, second, other], plan, check);
    check.equal("the address maps its own frame again", other.put(other.entry(RW), FLUSH_ALL), 0);
    check.equal("unpin", table.unpin(), 0);
    check.equal("unseal", table.unseal(), 0);
    check.equal("writable page tables are off", assist(VMASST_CMD_DISABLE), 0);
}

/// All vCPUs change the same entries of the table.
fn entries(pool: &VcpuPool, pages: [Page; 4], plan: &Plan, check: &mut Check) {
    let [table, first, second, other] = pages;
    let values = [
        0,
        first.entry(RW),
        first.entry(RO),
        second.entry(RW),
        second.entry(RO | 4),
        table.entry(RO),
    ];
    let bad = [table.entry(RW), table.entry(RW | 4)];
    let [errors, let_through] = [const { AtomicU64::new(0) }; 2];
    pool.run(&|id| {
        let mut random = Random::new(plan.seed + 31 * u64::from(id));
        for _ in 0..plan.rounds * 8 {
            let index = 1 + random.index(3);
            let value = values[random.index(values.len())];
            let kind = random.below(5);
            sync::set_progress(2000 + kind as u32);
            let failed = match kind {
                0 | 1 => update(table.slot(index), value) != 0,
                // A store through either address. The entry may change meanwhile; then it is
                // emulated again.
                2 => table.try_set(index, value).is_err(),
                3 => other.try_set(index, value).is_err(),
                _ => {
                    let value = bad[random.index(bad.len())];
                    let refused = update(table.slot(index), value) != 0
                        && table.try_set(index, value).is_err();
                    let_through.fetch_add(u64::from(!refused), SeqCst);
                    false
                }
            };
            errors.fetch_add(u64::from(failed), SeqCst);
        }
    });
    println!("SMP self-modifying: {} of {} refused", errors.load(SeqCst), plan.rounds * 8);
    check.equal("allowed stores are emulated", errors.load(SeqCst), 0);
    check.equal("no writable mapping of the table itself", let_through.load(SeqCst), 0);
    for index in 1..4 {
        let address = table.get(index) & ENTRY_ADDRESS;
        let known = values.iter().any(|value| value & ENTRY_ADDRESS == address);
        check.holds("the entry is one that was written", known);
        check.equal("it can be cleared", update(table.slot(index), 0), 0);
    }
    // No reference was lost or leaked: both frames can be tables and data again.
    for page in [first, second] {
        check.equal("seal", page.put(page.entry(RO), FLUSH_ALL), 0);
        check.equal("no writable mapping is left", page.pin(1), 0);
        check.equal("unpin", page.unpin(), 0);
        check.equal("unseal", page.unseal(), 0);
    }
}

/// All vCPUs change the entry of one address in the address space that all run on.
fn places(pool: &VcpuPool, pages: [Page; 4], plan: &Plan, check: &mut Check) {
    let [table, first, second, other] = pages;
    let errors = AtomicU64::new(0);
    pool.run(&|id| {
        let mut random = Random::new(plan.seed + 17 * u64::from(id));
        for _ in 0..plan.rounds * 4 {
            let kind = random.below(6);
            sync::set_progress(3000 + kind as u32);
            let result = match kind {
                0 => other.put(first.entry(RW), FLUSH_ALL),
                1 => other.put(second.entry(RW), FLUSH_ALL),
                2 => other.put(table.entry(RO), FLUSH_ALL),
                3 => update(other.pte, second.entry(RO)),
                4 => update(other.pte, 0),
                _ => {
                    // Read-only, not present, or a table: all are allowed.
                    let _ = other.try_set(200, 0);
                    0
                }
            };
            errors.fetch_add(u64::from(result != 0), SeqCst);
        }
    });
    check.equal("all calls succeed", errors.load(SeqCst), 0);
    check.equal("the address can be unmapped", other.put(0, FLUSH_ALL), 0);
}
