//! Copying pages out to pageable storage, and back.

use super::page::{copy, stamp};
use super::{BufferId, Buffers, Corrupt, CpuContext, Error, Moment, Slots};
use crate::addr::Pfn;
use crate::mmu::{self, Mmu};
use crate::pageable::{self, ObjectId, Pager, Store};
use crate::platform::Platform;

/// The copy of one page, out or back.
struct Move {
    buffer: BufferId,
    page: u64,
    object: ObjectId,
    /// The buffer's frame.
    frame: Pfn,
    moment: Moment,
    wanted: u64,
    slots: Slots,
}

impl Move {
    /// Copies the page. The page of the object is pinned meanwhile.
    fn run(&self, cpu: &impl CpuContext) -> Result<(), Error> {
        let (object, page) = (self.object, self.page);
        let target = cpu.with_mmu(|mmu, pager| {
            pager.pin(mmu, object, page..page + 1)?;
            pager.page(object, page)
        })?;
        let copied = self.copy(cpu, target);
        cpu.with_mmu(|_, pager| {
            if self.moment == Moment::Out && copied.is_ok() {
                pager.mark_dirty(object, page..page + 1)?;
            }
            pager.unpin(object, page..page + 1)
        })?;
        copied
    }

    /// Copies the page through the atomic slots of this CPU.
    fn copy(&self, cpu: &impl CpuContext, other: Pfn) -> Result<(), Error> {
        let &Move { buffer, page, frame, moment, wanted, .. } = self;
        let [from, to] = if moment == Moment::Out { [frame, other] } else { [other, frame] };
        let pair = cpu.with_mmu(|mmu, _| mmu.kmap_atomic(cpu.cpu_id(), [from, to]))?;
        let found = copy(cpu, pair.va(), stamp(buffer, page));
        cpu.with_mmu(|mmu, _| match self.slots {
            Slots::Kept => {
                mmu.kunmap_atomic(pair);
                Ok(())
            }
            Slots::Cleared => mmu.kunmap_atomic_now(pair),
        })?;
        Corrupt::unless(found == wanted, || Corrupt {
            buffer,
            page,
            frame: from,
            moment,
            wanted,
            found,
        })
    }
}

/// Allocates a frame, for which pageable pages may be paged out.
fn frame_from<P: Platform, S: Store>(
    mmu: &mut Mmu<P>,
    pager: &mut Pager<S>,
) -> Result<Pfn, pageable::Error> {
    loop {
        match mmu.alloc_frame() {
            Err(mmu::Error::NoFrame) if pager.shrink(mmu, 1)? > 0 => {}
            result => return Ok(result?),
        }
    }
}

impl Buffers {
    /// Copies a buffer's pages to pageable storage and frees their frames, one by one.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`], [`Error::Corrupt`], no room in the storage, or those of the [`Mmu`]. The
    /// page where it happened and those after it are not moved.
    pub fn swap_out(&mut self, cpu: &impl CpuContext, id: BufferId) -> Result<(), Error> {
        let buffer = self.buffers.get_mut(&id).ok_or(Error::Gone(id))?;
        if buffer.resident() == 0 {
            return Ok(());
        }
        let object = match buffer.object {
            Some(object) => object,
            None => {
                let pages = buffer.pages.len() as u64;
                *buffer.object.insert(cpu.with_mmu(|_, pager| pager.create(pages))?)
            }
        };
        for (number, page) in (0..).zip(&mut buffer.pages) {
            let Some(frame) = page.frame else { continue };
            Move {
                buffer: id,
                page: number,
                object,
                frame,
                moment: Moment::Out,
                wanted: page.sum,
                slots: self.slots,
            }
            .run(cpu)?;
            page.frame = None;
            self.stats.out += 1;
            self.stats.checked += 1;
            cpu.with_mmu(|mmu, _| mmu.free_frame(frame));
        }
        Ok(())
    }

    /// Copies a buffer's pages back into frames. The buffers that were not used for longest are
    /// swapped out for them.
    ///
    /// # Errors
    ///
    /// As [`swap_out`](Buffers::swap_out), or no free frame.
    pub fn swap_in(&mut self, cpu: &impl CpuContext, id: BufferId) -> Result<(), Error> {
        let buffer = self.buffers.get(&id).ok_or(Error::Gone(id))?;
        self.order.retain(|&other| other != id);
        self.order.push_back(id);
        let Some(object) = buffer.object else { return Ok(()) };
        let missing = buffer.pages.len() - buffer.resident();
        self.make_room(cpu, id, missing)?;
        let Some(buffer) = self.buffers.get_mut(&id) else { return Ok(()) };
        for (number, page) in (0..).zip(&mut buffer.pages) {
            if page.frame.is_some() {
                continue;
            }
            let frame = cpu.with_mmu(frame_from)?;
            let moved = Move {
                buffer: id,
                page: number,
                object,
                frame,
                moment: Moment::Back,
                wanted: page.sum,
                slots: self.slots,
            }
            .run(cpu);
            if let Err(error) = moved {
                cpu.with_mmu(|mmu, _| mmu.free_frame(frame));
                return Err(error);
            }
            page.frame = Some(frame);
            self.stats.back += 1;
            self.stats.checked += 1;
        }
        buffer.object = None;
        Ok(cpu.with_mmu(|mmu, pager| pager.free(mmu, object))?)
    }

    /// Gives a frame to each page of a new buffer.
    pub(super) fn populate(&mut self, cpu: &impl CpuContext, id: BufferId) -> Result<(), Error> {
        let missing = self.buffers.get(&id).ok_or(Error::Gone(id))?.pages.len();
        self.make_room(cpu, id, missing)?;
        for page in self.buffers.get_mut(&id).into_iter().flat_map(|buffer| &mut buffer.pages) {
            page.frame = Some(cpu.with_mmu(frame_from)?);
        }
        Ok(())
    }

    /// Swaps other buffers out until there is room for so many pages, or no other is left.
    fn make_room(
        &mut self,
        cpu: &impl CpuContext,
        id: BufferId,
        pages: usize,
    ) -> Result<(), Error> {
        while self.resident() + pages > self.limit {
            let mut others = self.order.iter().copied().filter(|&other| other != id);
            let Some(oldest) = others.find(|other| self.buffers[other].resident() > 0) else {
                break;
            };
            self.swap_out(cpu, oldest)?;
        }
        Ok(())
    }
}
