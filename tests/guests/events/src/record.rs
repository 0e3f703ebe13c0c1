//! `register_vcpu_info`: the vCPU's record moves to a page of the guest.

use crate::signal::{self, bind_port, close_port};
use core::cell::UnsafeCell;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_abi::errno::Errno::{EINVAL, ENXIO};
use pinfold_guest::addr::PAGE_SIZE;
use pinfold_guest::entry::memory::Frames;
use pinfold_guest::entry::{Boot, catch, event, time};
use pinfold_guest::fixtures::Check;
use pinfold_guest::hypercall::event::send;
use pinfold_guest::hypercall::vcpu;
use pinfold_guest::shared::SharedPage;

#[repr(C, align(4096))]
struct Page(UnsafeCell<[u8; PAGE_SIZE as usize]>);
// SAFETY: only the hypervisor uses it once it is registered, and nobody before.
unsafe impl Sync for Page {}
static PAGE: Page = Page(UnsafeCell::new([0; PAGE_SIZE as usize]));

/// Where the record goes in the page.
const OFFSET: u32 = 0x340;

pub(crate) fn run(boot: &Boot, shared: &SharedPage, check: &mut Check) {
    let frames = Frames::new(boot);
    let port = bind_port();
    signal::reset();
    // Pending when the record moves: it must not be lost.
    event::mask();
    check.ok("send", send(port));
    let page = PAGE.0.get().cast::<u8>();
    // SAFETY: the record can't be at this offset.
    let crossing = unsafe { event::move_record(&frames, page, PAGE_SIZE as u32 - 32) };
    check.refused("a record across pages", crossing, ENXIO);
    // SAFETY: as above.
    let odd = unsafe { event::move_record(&frames, page, u32::MAX) };
    check.refused("a record at a bad address", odd, ENXIO);
    // SAFETY: nobody uses the page.
    let moved = unsafe { event::move_record(&frames, page, OFFSET) };
    if check.ok("register", moved).is_none() {
        return;
    }
    event::unmask();
    check.equal("the pending event is delivered", signal::handled(), 1);
    check.ok("send", send(port));
    check.equal("events are delivered by the new record", signal::handled(), 2);
    // The old record has no effect any more.
    event::mask();
    shared.vcpus[0].upcall_mask.store(0, SeqCst);
    shared.vcpus[0].upcall_pending.store(1, SeqCst);
    check.ok("send", send(port));
    check.equal("the old record's mask has no effect", signal::handled(), 2);
    event::unmask();
    check.equal("the new record's mask has", signal::handled(), 3);
    event::mask();

    // SAFETY: nothing is mapped there.
    let fault = unsafe { catch::read(0x4567_8000) };
    check.equal("cr2 is in the new record", fault.err().map(|trap| trap.cr2), Some(0x4567_8000));
    let before = time::raw();
    time::spin(2_000_000);
    check.holds("the clock is in the new record", before > 0 && time::raw() >= before + 2_000_000);
    check.ok("sleep", time::sleep(2_000_000));
    // SAFETY: refused.
    let again = unsafe { vcpu::register_vcpu_info(0, 0, 0) };
    check.refused("registering twice", again, EINVAL);
    close_port(port);
}
