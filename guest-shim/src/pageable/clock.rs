//! Which pages go when memory is short: those that nobody pinned since the hand of the clock came
//! by the last time.

use super::object::Page;
use super::{Error, ObjectId, Pager, Store};
use crate::mmu::Mmu;
use crate::platform::Platform;

impl<S: Store> Pager<S> {
    /// Takes their frames from so many pages, if there are so many without a pin; how many.
    ///
    /// # Errors
    ///
    /// The store's, if not a single page could be taken because of it.
    pub fn shrink<P: Platform>(&mut self, mmu: &mut Mmu<P>, count: usize) -> Result<usize, Error> {
        let mut gone = 0;
        let mut failed = None;
        // Once around for those that were used meanwhile, and once more to take them.
        for _ in 0..2 * self.clock.len() {
            if gone == count {
                break;
            }
            let Some((id, number)) = self.clock.pop_front() else { break };
            let Some(page) = self.pages(id).get_mut(number as usize) else { continue };
            let spared = page.pins > 0 || core::mem::take(&mut page.used);
            if spared {
                self.clock.push_back((id, number));
                continue;
            }
            match self.page_out(mmu, id, number) {
                Ok(()) => gone += 1,
                Err(error) => {
                    failed = Some(error);
                    self.clock.push_back((id, number));
                }
            }
        }
        failed.filter(|_| gone == 0).map_or(Ok(gone), Err)
    }

    /// Takes its frame from a page.
    fn page_out<P: Platform>(
        &mut self,
        mmu: &mut Mmu<P>,
        id: ObjectId,
        number: u64,
    ) -> Result<(), Error> {
        let Page { frame, dirty, .. } = self.pages(id)[number as usize];
        let Some(frame) = frame else { return Ok(()) };
        if dirty {
            let words = core::array::from_fn(|index| mmu.read(frame, index));
            self.store.write(id.place(number), &words)?;
            self.stats.paged_out += 1;
        } else {
            self.stats.dropped += 1;
        }
        let page = &mut self.pages(id)[number as usize];
        page.stored |= dirty;
        page.dirty = false;
        page.frame = None;
        self.resident -= 1;
        // Areas that mapped it may not be cleared yet: the owner of the mappings knows.
        mmu.free_frame(frame);
        Ok(())
    }
}
