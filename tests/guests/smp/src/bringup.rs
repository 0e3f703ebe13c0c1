//! `vcpu_op`: starting vCPUs, and first states that are refused.

use crate::sync::{MAX_VCPUS, VcpuPool};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_abi::errno::Errno::{EEXIST, EINVAL, ENOENT};
use pinfold_abi::vcpu::{RUNSTATE_OFFLINE, SINGLESHOT_FUTURE, VGCF_IN_KERNEL, VcpuGuestContext};
use pinfold_guest::addr::{Mfn, PAGE_SIZE};
use pinfold_guest::entry::memory::Frames;
use pinfold_guest::entry::percpu::{PerCpu, this};
use pinfold_guest::entry::{smp, time};
use pinfold_guest::fixtures::Check;
use pinfold_guest::hypercall::{in_container, vcpu};
use pinfold_guest::println;

const NONCANONICAL: u64 = 0x0123_4567_89ab_cdef;
const VCPU: u32 = 1;

/// Makes a valid first state invalid.
type Change<'a> = &'a dyn Fn(&mut VcpuGuestContext);

fn never(_own: &'static PerCpu) {}

/// Tries invalid first states for a vCPU that is not started yet.
pub(crate) fn refused(frames: &Frames, check: &mut Check) {
    check.equal("the boot vCPU is online", vcpu::is_up(0), Ok(true));
    check.equal("the next one is offline", vcpu::is_up(VCPU), Ok(false));
    check.refused("up before initialise", vcpu::up(VCPU), EINVAL);
    check.ok("down of an offline vCPU", vcpu::down(VCPU));
    let state = vcpu::runstate(VCPU).map(|info| info.state);
    check.equal("it is offline", state, Ok(RUNSTATE_OFFLINE));
    check.ok("up of an online vCPU", vcpu::up(0));
    let far = smp::count();
    check.refused("up of an unknown vCPU", vcpu::up(far), ENOENT);
    check.refused("down of an unknown vCPU", vcpu::down(far), ENOENT);
    check.refused("is_up of an unknown vCPU", vcpu::is_up(far), ENOENT);
    check.refused("runstate of an unknown vCPU", vcpu::runstate(far), ENOENT);
    let data = frames.mfn(frames.first_free()).map_or(0, |mfn| mfn.0);
    let attempts: [(&str, Change<'_>); 14] = [
        ("rip", &|c| c.user_regs.rip = NONCANONICAL),
        ("rsp", &|c| c.user_regs.rsp = NONCANONICAL),
        ("fs base", &|c| c.fs_base = NONCANONICAL),
        ("gs base of the kernel", &|c| c.gs_base_kernel = NONCANONICAL),
        ("gs base of the user", &|c| c.gs_base_user = NONCANONICAL),
        ("root that is no table", &|c| c.ctrlreg[3] = Mfn(data).address()),
        ("root beyond memory", &|c| c.ctrlreg[3] = 0x000f_ffff_ffff_f000),
        ("user root that is no table", &|c| c.ctrlreg[1] = Mfn(data).address() | 1),
        ("too many GDT entries", &|c| c.gdt_ents = 7169),
        ("GDT in a writable frame", &|c| {
            c.gdt_ents = 16;
            c.gdt_frames[0] = data;
        }),
        ("GDT beyond memory", &|c| {
            c.gdt_ents = 16;
            c.gdt_frames[0] = Mfn::from_address(u64::MAX).0;
        }),
        ("LDT that is not page-aligned", &|c| {
            c.ldt_ents = 1;
            c.ldt_base = 0xffff_9000_0000_0008;
        }),
        ("too many LDT entries", &|c| {
            c.ldt_ents = 8193;
            c.ldt_base = 0xffff_9000_0000_0000;
        }),
        ("LDT at the hypervisor's address", &|c| {
            c.ldt_ents = 16;
            c.ldt_base = 0xffff_8000_0000_0000;
        }),
    ];
    // In the container these words are ignored, but the vCPU can't start in user mode.
    let ring3: [(&str, Change<'_>); 4] = [
        ("kernel stack", &|c| c.kernel_sp = NONCANONICAL),
        ("event callback", &|c| c.event_callback_eip = NONCANONICAL),
        ("failsafe callback", &|c| c.failsafe_callback_eip = NONCANONICAL),
        ("syscall callback", &|c| c.syscall_callback_eip = NONCANONICAL),
    ];
    let container: [(&str, Change<'_>); 1] = [("user mode", &|c| c.flags &= !VGCF_IN_KERNEL)];
    let others = if in_container() { &container[..] } else { &ring3 };
    for (what, change) in attempts.iter().chain(others) {
        let Some((_, mut context)) = check.ok("a first state", smp::prepare(VCPU, never)) else {
            return;
        };
        change(&mut context);
        // SAFETY: the call is refused.
        let result = unsafe { vcpu::initialise(VCPU, &mut context) };
        check.refused(what, result, EINVAL);
        check.refused("after the refusal it is not initialised", vcpu::up(VCPU), EINVAL);
    }
}

/// Starts all vCPUs.
pub(crate) fn run(count: u32, check: &mut Check) -> Option<VcpuPool> {
    static SEEN: [AtomicU64; MAX_VCPUS] = [const { AtomicU64::new(0) }; MAX_VCPUS];
    let start = time::raw();
    let pool = check.ok("start", VcpuPool::start("smp", count))?;
    pool.run(&|id| {
        let here: u64 = 0;
        SEEN[id as usize].store(&raw const here as u64, SeqCst);
    });
    println!("SMP {count} vCPUs started and run in {} us", (time::raw() - start) / 1000);
    for id in 0..count {
        let stack = SEEN[id as usize].load(SeqCst);
        check.holds("each vCPU ran", stack != 0);
        check.equal("it is online", vcpu::is_up(id), Ok(true));
        let alone =
            (0..id).all(|other| SEEN[other as usize].load(SeqCst).abs_diff(stack) > PAGE_SIZE);
        check.holds("on a stack of its own", alone);
        let own = smp::cpu(id).map(PerCpu::id);
        check.equal("with per-CPU data of its own", own, Some(id));
    }
    check.equal("this is vCPU 0", this().id(), 0);
    let (_, mut context) = check.ok("a first state", smp::prepare(count - 1, never))?;
    // SAFETY: the call is refused.
    let again = unsafe { vcpu::initialise(count - 1, &mut context) };
    check.refused("initialise again", again, EEXIST);
    check.refused(
        "a vCPU can't set another's timer",
        vcpu::set_singleshot_timer(1, 1, SINGLESHOT_FUTURE),
        EINVAL,
    );
    check.refused("a vCPU can't stop another's timer", vcpu::stop_singleshot_timer(1), EINVAL);
    check.ok("a vCPU can stop another's periodic timer", vcpu::stop_periodic_timer(1));
    Some(pool)
}
