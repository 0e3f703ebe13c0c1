//! Running a job on all vCPUs at once.
//!
//! Between two jobs the secondary vCPUs are blocked, each waiting for an event of its own.

use super::lock::Mutex;
use super::percpu::{PerCpu, this};
use super::{event, smp, time};
use crate::hypercall::event::{Port, bind_ipi, send};
use crate::hypercall::sched::{self, Exit};
use crate::hypercall::{Errno, vcpu};
use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicU32, AtomicU64};

/// Most vCPUs of a pool.
pub const MAX_VCPUS: usize = 32;
/// How long a job may take, in ns. TCG on a busy host is slow.
const JOB_TIMEOUT_NS: u64 = 100_000_000_000;

/// A job, called with the vCPU's number.
type Job<'a> = &'a (dyn Fn(u32) + Sync);

/// The current [`Job`], which stays borrowed until all vCPUs have finished it.
struct Current(*const (dyn Fn(u32) + Sync));
// SAFETY: what it points to may be used by any vCPU.
unsafe impl Send for Current {}

static CURRENT: Mutex<Option<Current>> = Mutex::new(None);
static TURN: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU32 = AtomicU32::new(0);
static WAKE: [AtomicU32; MAX_VCPUS] = [const { AtomicU32::new(0) }; MAX_VCPUS];
static PROGRESS: [AtomicU32; MAX_VCPUS] = [const { AtomicU32::new(0) }; MAX_VCPUS];

/// The vCPUs of the guest.
#[derive(Debug)]
pub struct VcpuPool {
    /// Name of the guest, for its last line if a job hangs.
    guest: &'static str,
    count: u32,
}

fn nothing(_port: Port) {}

impl VcpuPool {
    /// Starts all vCPUs but the running one, each with a port to wake it. The shared page must be
    /// mapped, and there must be only one pool.
    ///
    /// # Errors
    ///
    /// The hypervisor's refusal of a port or a vCPU.
    pub fn start(guest: &'static str, count: u32) -> Result<VcpuPool, Errno> {
        for id in 1..count {
            let port = bind_ipi(id)?;
            WAKE[id as usize].store(port.0, SeqCst);
            let (own, mut context) = smp::prepare(id, worker)?;
            event::handle(port, own, nothing);
            // SAFETY: as it was prepared.
            unsafe { smp::launch(own, &mut context) }?;
        }
        event::unmask();
        Ok(VcpuPool { guest, count })
    }

    /// How many vCPUs there are.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Runs a job on all vCPUs and waits until all have finished. If that takes too long, the guest
    /// has failed and ends.
    ///
    /// # Panics
    ///
    /// If a port that the pool bound was closed.
    pub fn run(&self, job: Job<'_>) {
        self.begin(job);
        job(0);
        let end = time::raw() + JOB_TIMEOUT_NS;
        while DONE.load(SeqCst) < self.count - 1 {
            if time::raw() > end {
                self.hang();
            }
            let _ = time::sleep(200_000);
        }
        *CURRENT.lock() = None;
    }

    fn begin(&self, job: Job<'_>) {
        DONE.store(0, SeqCst);
        // SAFETY: only the lifetime changes; `run` does not return before all vCPUs have finished.
        let job = unsafe { core::mem::transmute::<Job<'_>, Job<'static>>(job) };
        *CURRENT.lock() = Some(Current(job));
        TURN.fetch_add(1, SeqCst);
        for id in 1..self.count {
            send(self.wake_port(id)).expect("an IPI port");
        }
    }

    /// The port that wakes a vCPU.
    pub fn wake_port(&self, id: u32) -> Port {
        Port(WAKE[id as usize].load(SeqCst))
    }

    fn hang(&self) -> ! {
        for id in 1..self.count {
            let state = vcpu::runstate(id).map(|info| info.state);
            let step = PROGRESS[id as usize].load(SeqCst);
            crate::println!("VCPU_POOL hang: vCPU {id} runstate={state:?} step={step}");
        }
        crate::println!("VERDICT fail guest={} a job hangs", self.guest);
        sched::shutdown(Exit::Crash)
    }
}

/// Records how far the running vCPU is, for the report of a job that hangs.
pub fn set_progress(step: u32) {
    PROGRESS[this().id() as usize].store(step, SeqCst);
}

fn worker(own: &'static PerCpu) {
    let mut turn = 0;
    loop {
        // Events are masked while it checks, so that none comes between the check and the block.
        event::mask();
        while TURN.load(SeqCst) == turn {
            sched::block().expect("block");
            event::mask();
        }
        event::unmask();
        turn = TURN.load(SeqCst);
        let job = CURRENT.lock().as_ref().map(|current| current.0);
        if let Some(job) = job {
            // SAFETY: borrowed until this vCPU has counted itself as finished.
            unsafe { (*job)(own.id()) };
        }
        DONE.fetch_add(1, SeqCst);
    }
}
