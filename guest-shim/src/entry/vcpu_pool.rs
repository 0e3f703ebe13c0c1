//! All vCPUs at one piece of work.
//!
//! Between two pieces the secondary vCPUs are blocked, each waiting for an event of its own.

use super::lock::Mutex;
use super::percpu::{PerCpu, this};
use super::{event, smp, time};
use crate::hypercall::event::{Port, bind_ipi, send};
use crate::hypercall::sched::{self, Exit};
use crate::hypercall::{Errno, vcpu};
use core::sync::atomic::Ordering::SeqCst;
use core::sync::atomic::{AtomicU32, AtomicU64};

/// vCPUs at most.
pub const MOST: usize = 32;
/// How long a piece of work may take, in ns: a translator on a busy machine is slow.
const LIMIT: u64 = 100_000_000_000;

/// A piece of work, called with the vCPU's number.
type Job<'a> = &'a (dyn Fn(u32) + Sync);

/// What is being done: a [`Job`] that stays borrowed until all are through.
struct Current(*const (dyn Fn(u32) + Sync));
// SAFETY: what it points to may be used by any vCPU.
unsafe impl Send for Current {}

static CURRENT: Mutex<Option<Current>> = Mutex::new(None);
static TURN: AtomicU64 = AtomicU64::new(0);
static DONE: AtomicU32 = AtomicU32::new(0);
static WAKE: [AtomicU32; MOST] = [const { AtomicU32::new(0) }; MOST];
static PLACE: [AtomicU32; MOST] = [const { AtomicU32::new(0) }; MOST];

/// The vCPUs.
#[derive(Debug)]
pub struct VcpuPool {
    /// The guest, for the last line of one that hangs.
    guest: &'static str,
    count: u32,
}

fn nothing(_port: Port) {}

impl VcpuPool {
    /// Gives each vCPU a port to be woken by, and starts all but the running one. The shared page
    /// is mapped already; there is one team only.
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

    /// Has all vCPUs do this, and waits until all are through. If that takes too long, the guest
    /// has failed.
    ///
    /// # Panics
    ///
    /// If a port that the team bound is gone.
    pub fn run(&self, job: Job<'_>) {
        self.begin(job);
        job(0);
        let end = time::raw() + LIMIT;
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
        // SAFETY: only the lifetime changes; `run` does not return before all are through.
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
            let place = PLACE[id as usize].load(SeqCst);
            crate::println!("TEAM hang: vCPU {id} runstate={state:?} place={place}");
        }
        crate::println!("VERDICT fail guest={} a piece of work takes for ever", self.guest);
        sched::shutdown(Exit::Crash)
    }
}

/// Notes where a vCPU is, in case it hangs.
pub fn at(place: u32) {
    PLACE[this().id() as usize].store(place, SeqCst);
}

fn worker(own: &'static PerCpu) {
    let mut turn = 0;
    loop {
        // Events are out while it looks, so that none can come between looking and blocking.
        event::mask();
        while TURN.load(SeqCst) == turn {
            sched::block().expect("block");
            event::mask();
        }
        event::unmask();
        turn = TURN.load(SeqCst);
        let job = CURRENT.lock().as_ref().map(|current| current.0);
        if let Some(job) = job {
            // SAFETY: borrowed until this vCPU says that it is through.
            unsafe { (*job)(own.id()) };
        }
        DONE.fetch_add(1, SeqCst);
    }
}
