//! The fixed form: a transfer holds its pages. Whoever begins one lets the mapping and the object
//! go at once; whichever vCPU comes by later is the device, writes, and looks whether what it
//! wrote stays. What was freed meanwhile is nobody else's until then.

use super::super::fixture::{Fixture, Owner};
use super::super::tables;
use super::{AT, devices, mapped, pages, unmapped};
use crate::policies::KINDS;
use crate::violation::Wrong;
use crate::{Failed, words};
use alloc::collections::VecDeque;
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::SeqCst;
use pinfold_guest::addr::Vaddr;
use pinfold_guest::dma::{Device, Io};
use pinfold_guest::entry::lock::Mutex;
use pinfold_guest::entry::time;
use pinfold_guest::fixtures::Random;
use pinfold_guest::mmu::Error;
use pinfold_guest::println;

/// Transfers that are left for later, for each vCPU.
const QUEUE: usize = 4;

/// What the devices have to do.
struct Devices<'a> {
    fixture: &'a Fixture<'a>,
    devices: [Device; 2],
    queue: Mutex<VecDeque<(Io, Device)>>,
    /// Pages that were freed while a device wrote to them.
    freed_early: AtomicU64,
    /// Page tables that the shim refused to make, with the holder's name.
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
        0 => Err(Wrong::Told("no page was freed while a device wrote to it")),
        _ => Err(Wrong::Told("all transfers are over, and pages are held")),
    })
}

impl Devices<'_> {
    fn round(&self, random: &mut Random) -> Result<(), Wrong> {
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
            self.refused(random)?;
        }
        tables::make(&mut self.fixture.mmu(), random)
    }

    /// A transfer to some pages of an object begins, and the object goes.
    fn begin(&self, random: &mut Random) -> Result<(), Wrong> {
        let device = self.devices[random.index(2)];
        let (space, mut object, root) = {
            let mut mmu = self.fixture.mmu();
            let (space, object) = mapped(&mut mmu, pages(random))?;
            // SAFETY: the root has the kernel's part, and nobody changed it.
            let root = unsafe { mmu.activate(space.root()) }?;
            (space, object, root)
        };
        // As user mode would: with nothing locked.
        let count = object.frames().len() as u64;
        let place = random.below(count);
        words::store(AT.page(place), random.next_u64());
        let mut mmu = self.fixture.mmu();
        // SAFETY: the kernel ran on it until now.
        unsafe { mmu.activate(root) }?;
        let pages = 1 + random.below((count - place).min(6));
        let io = device.get_user_pages(&mut *mmu, &space, AT.page(place), pages)?;
        if io.frames() != &object.frames()[place as usize..][..pages as usize] {
            return Err(Wrong::Told("the pages found are not the object's"));
        }
        unmapped(&mut mmu, space, &mut object)?;
        object.free(&mut mmu);
        self.freed_early.fetch_add(pages, SeqCst);
        drop(mmu);
        self.queue.lock().push_back((io, device));
        Ok(())
    }

    /// A device does its work: the pages are nobody else's.
    fn serve(&self, random: &mut Random) -> Result<(), Wrong> {
        let Some((io, device)) = self.queue.lock().pop_front() else { return Ok(()) };
        let stamp = random.next_u64();
        let page =
            |page: u64| [Vaddr(io.start().page(page).0), Vaddr(io.start().page(page).0 + 4088)];
        let pages = 0..io.frames().len() as u64;
        for va in pages.clone().flat_map(page) {
            words::store(va, stamp ^ va.0);
        }
        // Whoever takes frames now, takes others.
        self.spoil(&io, random)?;
        for va in pages.flat_map(page) {
            words::check(va, stamp ^ va.0)?;
        }
        let mut mmu = self.fixture.mmu();
        if io.frames().iter().any(|&frame| mmu.holders(frame) != [io.holder()]) {
            return Err(Wrong::Told("the reference of a page is not seen"));
        }
        Ok(device.end(&mut *mmu, io)?)
    }

    /// Frames are taken, written and given back.
    fn spoil(&self, io: &Io, random: &mut Random) -> Result<(), Wrong> {
        let mut mmu = self.fixture.mmu();
        let mut taken = alloc::vec::Vec::new();
        for _ in 0..random.below(6) {
            let frame = mmu.alloc_frame()?;
            if io.frames().contains(&frame) {
                return Err(Wrong::Corrupt(frame));
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

    /// A page table of a page that a device writes to: the shim refuses, and says who it is.
    fn refused(&self, random: &mut Random) -> Result<(), Wrong> {
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
                tables::healed(mmu, tree)
            }
            Err((_, error)) => Err(Wrong::Otherwise(error)),
            Ok(_) => Err(Wrong::Accepted),
        }
    }
}
