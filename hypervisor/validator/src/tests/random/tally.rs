//! That everything happened which the random guests are to try.

use super::*;

/// How often things went well, and how often not.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) pins: u64,
    pub(super) refused_pins: u64,
    pub(super) predicted: u64,
    pub(super) updates: u64,
    pub(super) plain: u64,
    pub(super) refused_updates: u64,
    pub(super) preempted: u64,
    pub(super) roots: u64,
    pub(super) deaths: u64,
    pub(super) moves: u64,
    pub(super) own: u64,
    pub(super) cleared: u64,
    pub(super) granted: u64,
    pub(super) refused_grants: u64,
    pub(super) ungranted: u64,
    pub(super) kept: u64,
    pub(super) unusual: u64,
    pub(super) refused_caching: u64,
    pub(super) reported: u64,
    pub(super) cache_flushes: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Tally) {
        self.pins += other.pins;
        self.refused_pins += other.refused_pins;
        self.predicted += other.predicted;
        self.updates += other.updates;
        self.plain += other.plain;
        self.refused_updates += other.refused_updates;
        self.preempted += other.preempted;
        self.roots += other.roots;
        self.deaths += other.deaths;
        self.moves += other.moves;
        self.own += other.own;
        self.cleared += other.cleared;
        self.granted += other.granted;
        self.refused_grants += other.refused_grants;
        self.ungranted += other.ungranted;
        self.kept += other.kept;
        self.unusual += other.unusual;
        self.refused_caching += other.refused_caching;
        self.reported += other.reported;
        self.cache_flushes += other.cache_flushes;
    }

    pub(super) fn assert_all_happened(&self, domains: u16, cache: CachePolicy) {
        std::println!("{self:?}");
        let Tally { pins, refused_pins, predicted, updates, plain, .. } = self;
        let Tally { refused_updates, preempted, roots, deaths, moves, own, cleared, .. } = self;
        for count in [pins, refused_pins, updates, plain, refused_updates] {
            assert!(*count > 100, "{self:?}");
        }
        if domains > 1 {
            for count in [self.granted, self.refused_grants, self.ungranted, self.kept] {
                assert!(count > 0, "{self:?}");
            }
        }
        let Tally { unusual, refused_caching, cache_flushes, .. } = self;
        for count in [preempted, roots, deaths, moves, own, cleared, unusual, refused_caching] {
            assert!(*count > 0, "{self:?}");
        }
        assert!(*cache_flushes > 0, "{self:?}");
        let (predicted, reported) = (*predicted > 100, self.reported > 0);
        match cache {
            CachePolicy::Strict => assert!(predicted && !reported, "{self:?}"),
            CachePolicy::Report => assert!(reported, "{self:?}"),
        }
    }
}
