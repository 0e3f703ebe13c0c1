//! What random guests do with whole frames: lend, hold, move, die.

use super::*;

impl Driver {
    /// One domain grants another (or itself) a frame, which maps it.
    pub(super) fn map_granted(&mut self) {
        let (owner, dom) = (self.dom(), self.dom());
        let table = self.frame_for(dom, Some(Level::L1));
        let frame = self.frame(owner);
        let index = slot(self.random.pick(&SLOTS));
        let mut flags = pinfold_abi::mmu::EntryFlags::USER;
        let writable = self.random.one_in(2);
        flags.set(pinfold_abi::mmu::EntryFlags::WRITABLE, writable);
        let mapping = GrantMapping { dom, table, index, owner, frame, flags };
        match self.persist(|driver, budget| driver.world.map_granted(&mapping, budget)) {
            Some(Ok(_)) => {
                self.done.granted += u64::from(owner != dom);
                let unmapping =
                    GrantUnmapping { dom, table, index, frame, writable, replacement: 0 };
                self.held.granted.push(unmapping);
            }
            Some(Err(_)) => self.done.refused_grants += 1,
            None => {}
        }
    }

    pub(super) fn unmap_granted(&mut self) {
        if self.held.granted.is_empty() {
            return;
        }
        let which = self.random.below(self.held.granted.len() as u64) as usize;
        let mut unmapping = self.held.granted.swap_remove(which);
        match self.random.below(8) {
            0 => unmapping.writable ^= true,
            1 => unmapping.frame = self.frame(unmapping.dom),
            2 => unmapping.dom = self.dom(),
            3 => unmapping.replacement = self.entry_for(unmapping.dom, unmapping.table),
            _ => {}
        }
        let mut debt = FlushDebt::none();
        let swapped = self
            .persist(|driver, budget| driver.world.unmap_granted(&unmapping, budget, &mut debt));
        self.done.ungranted += u64::from(swapped == Some(Ok(Swap::Done)));
        if self.random.one_in(2) {
            debt.pay(self.world.platform());
        }
    }

    pub(super) fn get_entry(&mut self) {
        let dom = self.dom();
        let frame = self.frame(dom);
        match self.random.below(4) {
            0 if self.world.get_writable_ref(dom, frame).is_ok() => {
                self.held.writable.push((dom, frame));
            }
            1 if self.world.get_descriptor_ref(dom, frame).is_ok() => {
                self.held.descriptors.push((dom, frame));
            }
            2 => {
                let (index, value) = (self.random.below(520) as usize, self.random.next());
                let _ = self.world.update_descriptor(dom, frame, index, value);
            }
            _ => self.release(),
        }
    }

    pub(super) fn release(&mut self) {
        if let Some((dom, frame)) = self.held.writable.pop() {
            self.world.put_writable_ref(dom, frame);
        }
        if let Some((dom, frame)) = self.held.descriptors.pop() {
            self.world.put_descriptor_ref(dom, frame);
        }
    }

    pub(super) fn move_frame(&mut self) {
        let dom = self.dom();
        let frame = self.frame(dom);
        let taken = match self.random.below(4) {
            0 => self.world.release(frame, dom),
            1 => self.world.reclaim(frame, dom),
            _ => return self.give(frame),
        };
        if taken.is_ok() {
            self.done.moves += 1;
        }
        self.give(frame);
    }

    pub(super) fn give(&mut self, frame: Mfn) {
        if self.random.one_in(8) {
            self.assign_to_hypervisor(frame);
            return;
        }
        let to = self.dom();
        let given = if self.random.one_in(6) {
            self.world.share(frame, to)
        } else {
            self.world.assign(frame, to)
        };
        if given.is_ok() {
            self.check_is_zero(frame);
        }
    }

    /// The hypervisor takes frames for itself, and gives others back.
    fn assign_to_hypervisor(&mut self, frame: Mfn) {
        if let Ok(frames) = self.world.clean_free_frames(frame, 1) {
            self.check_is_zero(frame);
            self.held.own.push_back(self.world.assign_to_hypervisor(frames, Purpose::Heap));
            self.done.own += 1;
        }
        // A few, so that the domains aren't starved.
        if self.held.own.len() > 2
            && let Some(frames) = self.held.own.pop_front()
        {
            self.world.free_hypervisor_frames(frames);
        }
    }

    fn check_is_zero(&self, frame: Mfn) {
        for slot in 0..ENTRIES {
            assert_eq!(self.world.platform().get(frame, slot), 0, "{frame} was handed out dirty");
        }
    }

    /// A domain dies, and its frames go to others.
    pub(super) fn death(&mut self) {
        let dom = self.dom();
        for cpu in 0..self.setup.cpus {
            let running = self.world.platform().cpus[cpu].lock().unwrap().running;
            if running.is_some_and(|(running, _)| running == dom) {
                self.unload(cpu);
            }
        }
        while !self.held.writable.is_empty() || !self.held.descriptors.is_empty() {
            self.release();
        }
        let mut progress = RelinquishProgress::new();
        while let Err(stop) = self.world.relinquish(dom, &mut progress, &mut self.budget()) {
            assert_eq!(stop, Error::Preempted);
            self.check();
        }
        self.check();
        let mut from = mfn(0);
        while let Some(frame) = self.world.next_owned(dom, from) {
            from = mfn(frame.get() + 1);
            if let Err(refusal) = self.world.reclaim(frame, dom) {
                // Another domain has it mapped: it stays until that is over.
                assert!(self.is_mapped_by_another(frame, dom), "{refusal}");
                self.done.kept += 1;
                continue;
            }
            self.check();
            let to = self.dom();
            self.world.assign(frame, to).unwrap();
            self.check_is_zero(frame);
        }
        self.done.deaths += 1;
    }

    pub(super) fn is_mapped_by_another(&self, frame: Mfn, dom: DomId) -> bool {
        let mut found = false;
        self.world.find_mappings(
            frame,
            dom,
            MappingFilter::All,
            SearchLimits::default(),
            &mut |mapping| {
                found = self.world.owner(mapping.table) != Some(dom);
                if found {
                    core::ops::ControlFlow::Break(())
                } else {
                    core::ops::ControlFlow::Continue(())
                }
            },
        );
        found
    }
}
