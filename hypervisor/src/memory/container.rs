//! Frames that the processor uses for hardware containers: permission maps, save areas of each CPU, and
//! the control block of each vCPU.

use super::{direct_map, frames};
use crate::arch::container::Guest;
use crate::arch::percpu::{self, MAX_CPUS};
use crate::arch::svm::guest::Shared;
use crate::arch::svm::permissions::{self, Permissions};
use crate::arch::svm::{self, Features};
use crate::sync::Mutex;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use pinfold_validator::{HypervisorFrames, Mfn, Purpose};
use spin::Once;

/// What the containers of the machine share.
struct Machine {
    features: Features,
    shared: Shared,
}

static MACHINE: Once<Machine> = Once::new();

/// Physical addresses of the two save areas of each CPU, for VMRUN and for VMSAVE; 0: none.
static SAVE_AREAS: [[AtomicU64; 2]; MAX_CPUS] =
    [const { [const { AtomicU64::new(0) }; 2] }; MAX_CPUS];

/// Allocates what the containers of all CPUs share, unless that is done. To be called when a domain
/// that needs a container is built, before any guest runs.
///
/// # Errors
/// Why there are no containers on this machine.
pub fn set_up() -> Result<(), &'static str> {
    if MACHINE.is_completed() {
        return Ok(());
    }
    let features = svm::detect().map_err(svm::Unavailable::reason)?;
    let order = permissions::FRAMES.next_power_of_two().ilog2();
    let maps = alloc(order)?;
    // SAFETY: the frames were just allocated, are contiguous and enough; any bytes are valid maps.
    unsafe { (*direct_map::frame(maps).cast::<Permissions>()).fill() };
    for cpu in percpu::online().iter() {
        for area in &SAVE_AREAS[cpu] {
            // Release: pairs with the acquire in `start_cpu`.
            area.store(alloc(0)?.address(), Ordering::Release);
        }
    }
    let shared = Shared {
        ports: maps.address(),
        msrs: maps.address() + permissions::MSRS,
        has_next_rip: features.has_next_rip,
    };
    MACHINE.call_once(|| Machine { features, shared });
    log::info!("container svm asids={} next_rip={}", features.asids, features.has_next_rip);
    Ok(())
}

fn alloc(order: u32) -> Result<Mfn, &'static str> {
    let frames = frames::alloc_hypervisor_frames(order, Purpose::Container);
    frames.map(|frames| frames.first()).ok_or("no memory for containers")
}

/// Prepares this CPU for containers, if there are any. To be called before it runs a vCPU.
///
/// # Panics
/// If it lacks what the boot CPU has.
pub fn start_cpu() {
    let Some(machine) = MACHINE.get() else { return };
    let [vmrun, host] = areas();
    assert!(vmrun != 0, "the CPU was not online when the containers' areas were made");
    assert!(svm::detect() == Ok(machine.features), "the CPUs' virtualisation differs");
    // SAFETY: the page was allocated for this CPU, and nothing else uses it.
    unsafe { svm::enable(vmrun) };
    percpu::this().set_up_containers(machine.features.asids, host);
}

fn areas() -> [u64; 2] {
    let areas = &SAVE_AREAS[percpu::cpu_number()];
    [0, 1].map(|which: usize| areas[which].load(Ordering::Acquire))
}

/// The control blocks of a domain's vCPUs, by number.
#[derive(Debug, Default)]
pub struct ControlBlocks {
    /// `None`: a vCPU uses it.
    free: Mutex<Vec<Option<Mfn>>>,
    frames: Mutex<Vec<HypervisorFrames>>,
}

impl ControlBlocks {
    /// Allocates a control block for each of a domain's vCPUs.
    ///
    /// # Errors
    /// Why there are no containers on this machine.
    pub fn alloc(vcpus: u16) -> Result<ControlBlocks, &'static str> {
        set_up()?;
        let blocks = ControlBlocks::default();
        for _ in 0..vcpus {
            let Some(frame) = frames::alloc_hypervisor_frame(Purpose::Container) else {
                blocks.release();
                return Err("no memory for the containers of all vCPUs");
            };
            blocks.free.lock().push(Some(frame.first()));
            blocks.frames.lock().push(frame);
        }
        Ok(blocks)
    }

    /// Makes the container of a vCPU, in its first state. `None`: it has one, or the domain has no
    /// containers.
    pub fn take(&self, vcpu: u16) -> Option<Guest> {
        let frame = self.free.lock().get_mut(usize::from(vcpu))?.take()?;
        let shared = MACHINE.get()?.shared;
        // SAFETY: the frame was allocated for this and taken just now; the direct map maps it for good.
        Some(unsafe { Guest::new(&mut *direct_map::frame(frame).cast(), frame.address(), shared) })
    }

    /// Gives back what [`ControlBlocks::take`] returned, after the container was dropped.
    pub fn put_back(&self, vcpu: u16, guest: Guest) {
        let frame = Mfn::from_address(guest.physical());
        if let Some(free) = self.free.lock().get_mut(usize::from(vcpu)) {
            *free = Some(frame);
        }
    }

    /// Frees all frames. No vCPU of the domain exists any more.
    pub fn release(&self) {
        self.free.lock().clear();
        for frame in self.frames.lock().drain(..) {
            frames::free_hypervisor_frames(frame);
        }
    }
}
