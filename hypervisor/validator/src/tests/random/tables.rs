//! What random guests do to page tables: pins, changes, loads, touches, shootdowns.

use super::*;

impl Driver {
    pub(super) fn pin(&mut self) {
        let dom = self.dom();
        let frame = self.frame(dom);
        let level = match Self::role(frame) {
            Some(level) if !self.random.one_in(8) => level,
            _ => self.random.pick(&Level::ALL),
        };
        let partial = (0..self.setup.frames as u64)
            .any(|number| self.world.info(mfn(number)).unwrap().state() == State::Partial);
        let strict = self.setup.cache == CachePolicy::Strict;
        let expected =
            (!partial && strict).then(|| would_pin(self.world, self.setup, dom, level, frame));
        let mut first = true;
        let result = self.persist(|driver, budget| {
            let result = driver.world.pin(dom, level, frame, budget);
            first &= result != Err(Error::Preempted);
            result
        });
        let Some(result) = result else { return };
        if let (Some(expected), true) = (expected, first) {
            assert_eq!(result.is_ok(), expected, "pin of {frame} as {level}: {result:?}");
            self.done.predicted += 1;
        }
        match result {
            Ok(()) => self.done.pins += 1,
            Err(refusal) => {
                self.done.refused_pins += 1;
                self.check_refusal(&refusal);
            }
        }
    }

    /// What a refusal says is so: an alias can be found.
    pub(super) fn check_refusal(&mut self, refusal: &Refusal) {
        // Both forms must be printable, whatever is in them.
        let text = std::format!("{refusal} {}", refusal.evidence());
        self.done.refused_caching += u64::from(refusal.is_cache_alias());
        assert!(!text.is_empty());
        let externally = self.held.writable.iter().any(|&(_, frame)| frame == refusal.frame);
        // Also for a foreign-mapped frame: then in tables of other domains.
        if refusal.is_alias() && !externally && refusal.location.is_none() {
            let mut found = 0;
            self.world.find_mappings(
                refusal.frame,
                refusal.dom,
                MappingFilter::Writable,
                SearchLimits::default(),
                &mut |_| {
                    found += 1;
                    core::ops::ControlFlow::Break(())
                },
            );
            assert_eq!(found, 1, "{refusal}");
        }
    }

    pub(super) fn unpin(&mut self) {
        let dom = self.dom();
        let frame = self.frame(dom);
        self.persist(|driver, budget| driver.world.unpin(dom, frame, budget));
    }

    pub(super) fn update(&mut self) {
        let dom = self.dom();
        let table = self.frame(dom);
        let value = self.entry_for(dom, table);
        let update = Update {
            dom,
            table_owner: dom,
            target_owner: if self.random.one_in(100) { self.dom() } else { dom },
            table,
            index: slot(self.random.pick(&SLOTS)),
            value,
            preserve_ad: self.random.one_in(3),
        };
        let result = self.persist(|driver, budget| driver.world.update(update, budget));
        match result {
            Some(Ok(Updated { level: Some(_), .. })) => {
                self.done.updates += 1;
                let present = value & P != 0 && Self::role(table) == Some(Level::L1);
                let unusual = value & MemoryType::FLAGS.bits() != 0;
                self.done.unusual += u64::from(present && unusual);
            }
            Some(Ok(_)) => self.done.plain += 1,
            Some(Err(refusal)) => {
                self.done.refused_updates += 1;
                self.check_refusal(&refusal);
            }
            None => {}
        }
    }

    pub(super) fn emulated_store(&mut self) {
        let dom = self.dom();
        let table = self.frame_for(dom, Some(Level::L1));
        let index = slot(self.random.pick(&SLOTS));
        let new = self.entry_for(dom, table);
        let expected = if self.random.one_in(4) || table.get() >= self.setup.frames as u64 {
            new
        } else {
            self.world.platform().get(table, index.get())
        };
        self.persist(|driver, budget| {
            driver.world.update_l1_cas(dom, table, index, expected, new, budget).map(|_| ())
        });
    }

    /// A store by the guest itself: possible where it has the frame mapped writable.
    pub(super) fn direct_store(&mut self) {
        let dom = self.dom();
        let frame = self.frame(dom);
        let Some(info) = self.world.info(frame) else { return };
        if info.owner() == Some(dom) && info.held_as() == Some(Kind::Writable) {
            let value = self.entry_for(dom, frame);
            let index = self.random.pick(&SLOTS);
            self.world.platform().set(frame, index, value);
        }
    }

    pub(super) fn load_root(&mut self) {
        let cpu = self.random.below(self.setup.cpus as u64) as usize;
        let dom = self.dom();
        let frame = self.frame_for(dom, Some(Level::L4));
        if self.random.one_in(5) {
            self.unload(cpu);
            return;
        }
        let taken = self.persist(|driver, budget| driver.world.get_root_ref(dom, frame, budget));
        if let Some(Ok(())) = taken {
            self.done.roots += 1;
            self.world.platform().load(cpu, Some((dom, frame)));
            self.drop_loaded(cpu);
            self.held.roots.push((dom, frame, Some(cpu)));
        }
    }

    pub(super) fn unload(&mut self, cpu: usize) {
        self.world.platform().load(cpu, None);
        self.drop_loaded(cpu);
    }

    /// Drops the root that was loaded on a CPU.
    pub(super) fn drop_loaded(&mut self, cpu: usize) {
        if let Some(at) = self.held.roots.iter().position(|&(_, _, on)| on == Some(cpu)) {
            let (dom, frame, _) = self.held.roots.swap_remove(at);
            let mut budget = self.budget();
            self.world.put_root_ref(dom, frame, &mut budget);
        }
    }

    pub(super) fn touch(&mut self) {
        let cpu = self.random.below(self.setup.cpus as u64) as usize;
        if self.random.one_in(4) {
            let which = self.random.next() as usize;
            return self.world.platform().use_stale(cpu, which);
        }
        let slots = [(); 4].map(|()| slot(self.random.pick(&SLOTS)));
        let [l4, l3, l2, l1] = slots;
        let address = Vaddr::from_indexes(l4, l3, l2, l1);
        if self.random.one_in(2) {
            self.world.platform().touch(cpu, address);
        } else {
            let which = self.random.next() as usize;
            self.world.platform().touch_cached(cpu, which, address);
        }
    }

    pub(super) fn guest_flush(&mut self) {
        let cpu = self.random.below(self.setup.cpus as u64) as usize;
        self.world.platform().flush_cpu(cpu);
    }

    pub(super) fn shootdown(&mut self) {
        let dom = self.dom();
        let loaded = self.held.roots.first().map(|&(_, root, _)| root);
        let root = match loaded {
            Some(root) if !self.random.one_in(4) => root,
            _ => self.frame_for(dom, Some(Level::L4)),
        };
        let dom = self.world.owner(root).unwrap_or(dom);
        let slots = [(); 4].map(|()| slot(self.random.pick(&SLOTS)));
        let [l4, l3, l2, l1] = slots;
        let start = Vaddr::from_indexes(l4, l3, l2, l1);
        let pages = if self.random.one_in(2) { 1 << 35 } else { 1 << self.random.below(30) };
        let mut range = PageRange { start, pages };
        if self.random.one_in(2) {
            // A whole half: whatever is mapped.
            range.start = Vaddr::new(if self.random.one_in(2) { 0 } else { 0xffff_8800 << 32 });
        }
        let mut total = ShootdownProgress::new();
        self.persist(|driver, budget| {
            driver.world.shootdown(dom, root, &mut range, budget, &mut total)
        });
        self.done.cleared += total.cleared;
        let pay = self.random.one_in(2);
        let debt = total.into_debt();
        if pay {
            debt.pay(self.world.platform());
        } else {
            drop(debt);
        }
    }
}
