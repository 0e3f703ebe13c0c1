//! Which pages are paged out when memory is short: those that were not pinned since the hand of the
//! clock algorithm passed them last.

use super::object::Page;
use super::{Error, ObjectId, Pager, Store};
use crate::mmu::Mmu;
use crate::platform::Platform;

impl<S: Store> Pager<S> {
    /// Pages out up to so many pages, as far as there are pages without a pin. Returns how many.
    ///
    /// # Errors
    ///
    /// The store's, if it failed and not a single page was paged out.
    pub fn shrink<P: Platform>(&mut self, mmu: &mut Mmu<P>, count: usize) -> Result<usize, Error> {
        let mut done = 0;
        let mut failed = None;
        // The first round clears the marks of used pages, the second pages them out.
        for _ in 0..2 * self.clock.len() {
            if done == count {
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
                Ok(()) => done += 1,
                Err(error) => {
                    failed = Some(error);
                    self.clock.push_back((id, number));
                }
            }
        }
        failed.filter(|_| done == 0).map_or(Ok(done), Err)
    }

    /// Pages out one page.
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
            self.store.write(id.page(number), &words)?;
            self.stats.paged_out += 1;
        } else {
            self.stats.dropped += 1;
        }
        let page = &mut self.pages(id)[number as usize];
        page.stored |= dirty;
        page.dirty = false;
        page.frame = None;
        self.resident -= 1;
        // Dead mappings of it may still exist: the `Mmu` knows.
        mmu.free_frame(frame);
        Ok(())
    }
}
