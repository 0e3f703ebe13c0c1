//! Which processors a thread runs on.

use rustix::thread::{CpuSet, sched_setaffinity};

/// Returns how many processors this process may use.
pub(crate) fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Returns the processor that this thread runs on, from the system call. The vDSO's `getcpu` reads
/// the limit of a segment descriptor, and Linux 6.1 sets that descriptor up only on the first
/// processor of a PV guest (on Xen too).
fn current_processor() -> usize {
    let mut processor = 0u32;
    let none = std::ptr::null_mut::<u8>();
    // SAFETY: the kernel writes one number.
    unsafe { libc::syscall(libc::SYS_getcpu, &mut processor, none, none) };
    processor as usize
}

/// Moves this thread to one processor; true if it runs there afterwards.
pub(crate) fn move_to(processor: usize) -> bool {
    set_affinity([processor]) && current_processor() == processor
}

/// Lets this thread run on any of the first `count` processors.
pub(crate) fn run_anywhere(count: usize) {
    assert!(set_affinity(0..count), "the affinity cannot be reset");
}

fn set_affinity(processors: impl IntoIterator<Item = usize>) -> bool {
    let mut set = CpuSet::new();
    processors.into_iter().for_each(|processor| set.set(processor));
    sched_setaffinity(None, &set).is_ok()
}
