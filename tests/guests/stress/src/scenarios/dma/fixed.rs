//! The fixed form: a transfer holds references to its pages. A vCPU starts a transfer, and unmaps
//! and frees the object at once. Later any vCPU acts as the device: it writes, and checks that what
//! it wrote stays. Until then the freed pages must not be used by anybody else.

use super::super::fixture::{Fixture, Owner};
use super::super::tables;
use super::{AT, devices, map_object, pages, unmap_object};
use crate::failure::Failed;
use crate::failure::Failure;
use crate::policies::KINDS;
use crate::words;
use alloc::collections::VecDeque;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_guest::addr::{PAGE_SIZE, Vaddr};
use pinfold_guest::dma::{Device, Io};
use pinfold_guest::entry::lock::Mutex;
use pinfold_guest::entry::time;
use pinfold_guest::fixtures::Random;
use pinfold_guest::mmu::Error;
use pinfold_guest::println;

/// Transfers that wait to be done, for each vCPU.
const QUEUE: usize = 4;

/// The devices and their pending transfers.
struct Devices<'a> {
    fixture: &'a Fixture<'a>,
    devices: [Device; 2],
    queue: Mutex<VecDeque<(Io, Device)>>,
    /// Pages that were freed while a device wrote to them.
    freed_early: AtomicU64,
    /// Page tables that the shim refused to make, naming the transfer.
    refused: AtomicU64,
}

pub(in super::super) fn run(fixture: &Fixture<'_>) -> Result<(), Failed> {
    let devices = Devices {
        fixture,
        devices: devices(fixture)?,
        queue: Mutex::new(VecDeque::new()),
        freed_early: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    };
    let share = fixture.rounds().div_ceil(KINDS.len() as u64);
    for (policy, pool) in KINDS {
        fixture.set_policy(policy)?;
        fixture.mmu().set_table_pool(pool);
        let (before, began) = (fixture.mmu().stats(), time::tsc());
        fixture.all(share, |_, _, random| devices.round(random))?;
        let (done, ticks) = (fixture.mmu().stats() - before, time::tsc() - began);
        println!(
            "COST scenario=3 policy={policy} pool={pool} rounds={share} pins={} pins_after_clear={} areas={} cleared={} flushes={} ticks={ticks}",
            done.pins, done.pins_after_clear, done.areas, done.cleared, done.flushes,
        );
    }
    fixture.once(|| {
        while !devices.queue.lock().is_empty() {
            devices.serve(&mut Random::new(1))?;
        }
        Ok(())
    })?;
    let [early, refused] = [devices.freed_early, devices.refused].map(AtomicU64::into_inner);
    println!("DMA scenario=3 freed_early={early} refused_by_shim={refused}");
    fixture.once(|| match fixture.mmu().frames_in_io() {
        0 if early > 0 && refused > 0 => Ok(()),
        0 => Err(Failure::Other("no page was freed while a device wrote to it")),
        _ => Err(Failure::Other("pages are held though all transfers have ended")),
    })
}

impl Devices<'_> {
    fn round(&self, random: &mut Random) -> Result<(), Failure> {
        self.begin(random)?;
        let most = QUEUE * self.fixture.count();
        for _ in 0..random.below(3) {
            if self.queue.lock().len() > random.below(most as u64) as usize {
                self.serve(random)?;
            }
        }
        while self.queue.lock().len() > most {
            self.serve(random)?;
        }
        if random.below(8) == 0 {
            self.try_table(random)?;
        }
        tables::build_and_free(&mut self.fixture.mmu(), random)
    }

    /// Starts a transfer to some pages of an object, and frees the object.
    fn begin(&self, random: &mut Random) -> Result<(), Failure> {
        let device = self.devices[random.index(2)];
        let (space, mut object, root) = {
            let mut mmu = self.fixture.mmu();
            let (space, object) = map_object(&mut mmu, pages(random))?;
            // SAFETY: the root has the kernel's entries, and nobody changed them.
            let root = unsafe { mmu.activate(space.root()) }?;
            (space, object, root)
        };
        // Without the lock, as user mode would.
        let count = object.frames().len() as u64;
        let place = random.below(count);
        words::store(AT.page(place), random.next_u64());
        let mut mmu = self.fixture.mmu();
        // SAFETY: the kernel ran on it until now.
        unsafe { mmu.activate(root) }?;
        let pages = 1 + random.below((count - place).min(6));
        let io = device.get_user_pages(&mut *mmu, &space, AT.page(place), pages)?;
        if io.frames() != &object.frames()[place as usize..][..pages as usize] {
            return Err(Failure::Other("the translated pages are not the object's"));
        }
        unmap_object(&mut mmu, space, &mut object)?;
        object.free(&mut mmu);
        self.freed_early.fetch_add(pages, SeqCst);
        drop(mmu);
        self.queue.lock().push_back((io, device));
        Ok(())
    }

    /// Does a device's work: nobody else may write to the pages.
    fn serve(&self, random: &mut Random) -> Result<(), Failure> {
        let Some((io, device)) = self.queue.lock().pop_front() else { return Ok(()) };
        let stamp = random.next_u64();
        let page = |page: u64| {
            [Vaddr(io.start().page(page).0), Vaddr(io.start().page(page).0 + PAGE_SIZE - 8)]
        };
        let pages = 0..io.frames().len() as u64;
        for va in pages.clone().flat_map(page) {
            words::store(va, stamp ^ va.0);
        }
        // Frames that are allocated now must be other ones.
        self.overwrite_free_frames(&io, random)?;
        for va in pages.flat_map(page) {
            words::check(va, stamp ^ va.0)?;
        }
        let mut mmu = self.fixture.mmu();
        if io.frames().iter().any(|&frame| mmu.holders(frame) != [io.holder()]) {
            return Err(Failure::Other("the reference to a page is not reported"));
        }
        Ok(device.end(&mut *mmu, io)?)
    }

    /// Allocates frames, writes to them and frees them.
    fn overwrite_free_frames(&self, io: &Io, random: &mut Random) -> Result<(), Failure> {
        let mut mmu = self.fixture.mmu();
        let mut taken = alloc::vec::Vec::new();
        for _ in 0..random.below(6) {
            let frame = mmu.alloc_frame()?;
            if io.frames().contains(&frame) {
                return Err(Failure::Corrupt(frame));
            }
            mmu.write(frame, 0, random.next_u64());
            mmu.write(frame, 511, random.next_u64());
            taken.push(frame);
        }
        for frame in taken {
            mmu.free_frame(frame);
        }
        Ok(())
    }

    /// Tries to make a page table of a page that a device writes to: the shim refuses, and names the
    /// transfer.
    fn try_table(&self, random: &mut Random) -> Result<(), Failure> {
        let device = self.devices[random.index(2)];
        let mut owner = self.fixture.mmu();
        let mmu: &mut Owner<'_> = &mut owner;
        let tree = mmu.alloc_tables(1)?;
        let wanted = tree.frames()[0];
        let io = device.begin(&mut **mmu, tree.frames())?;
        match mmu.pin(tree) {
            Err((tree, Error::InIo { frame, holder }))
                if frame == wanted && holder == io.holder() =>
            {
                self.refused.fetch_add(1, SeqCst);
                device.end(&mut **mmu, io)?;
                tables::pin_and_free(mmu, tree)
            }
            Err((_, error)) => Err(Failure::Otherwise(error)),
            Ok(_) => Err(Failure::Accepted),
        }
    }
}
