//! What kind of mapping is in the way, told from the evidence in the log, and what cures it.
//!
//! A name here is a judgement of likelihood, not a fact of the log: the hypervisor says what it
//! found, the guest says what it has freed, and how the two are put together is said in `why`.

use super::model::{Mapping, Report, Rule, State, Violation, number};
use schemars::JsonSchema;
use serde::Serialize;

/// What a violation is, the worst of its mappings deciding. The worst stands first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(super) enum Diagnosis {
    /// Mappings of one frame with different memory types.
    CacheType,
    /// Another domain has the frame mapped, which was granted to it.
    Borrowed,
    /// The guest really uses the page elsewhere.
    Live,
    /// A device's transfer is under way.
    Device,
    /// A user process has the page mapped.
    User,
    /// It is the kernel's own mapping of all its memory, left writable.
    LinearMap,
    /// In a named range, but whether it was freed isn't known.
    NamedRange,
    /// A slot that keeps a page mapped in case it is wanted again.
    CachedSlot,
    /// The guest freed it and put off clearing its entry.
    LazyArea,
    /// There is no mapping, and all the same somebody holds the frame.
    Held,
    /// The log doesn't list the mappings.
    #[default]
    NotListed,
}

/// Alignment of linear maps of all memory: those of known kernels begin at multiples of 1 GiB.
const LINEAR_ALIGNMENT: u64 = 1 << 30;
/// The first address that no user process can have.
const USER_END: u64 = 1 << 47;

impl Diagnosis {
    /// Of one mapping of a frame whose pseudo-physical number is known or not.
    pub(super) fn of(mapping: &Mapping, pfn: Option<u64>) -> Diagnosis {
        if mapping.borrower.is_some() {
            return Diagnosis::Borrowed;
        }
        let slot = mapping.region.as_deref().is_some_and(|name| name.contains("kmap"));
        match (mapping.state, mapping.region.is_some()) {
            (State::Dead, _) if slot => return Diagnosis::CachedSlot,
            (State::Dead, _) => return Diagnosis::LazyArea,
            (State::Unknown, true) if slot => return Diagnosis::CachedSlot,
            (State::Unknown, true) => return Diagnosis::NamedRange,
            (State::Live, true) => {
                let device = mapping.region.as_deref().is_some_and(|name| name.starts_with("dma"));
                return if device { Diagnosis::Device } else { Diagnosis::Live };
            }
            (_, false) => {}
        }
        match mapping.va.as_deref().and_then(number) {
            Some(va) if va < USER_END => Diagnosis::User,
            Some(va) if is_linear(va, pfn) => Diagnosis::LinearMap,
            _ => Diagnosis::Live,
        }
    }

    /// One line: what is in the way.
    pub(super) fn title(self) -> &'static str {
        match self {
            Diagnosis::CacheType => "a mapping of another memory type",
            Diagnosis::Borrowed => "another domain's mapping of a granted page",
            Diagnosis::Live => "a mapping in use: the page was freed too early",
            Diagnosis::Device => "a page that a device's transfer still holds",
            Diagnosis::User => "a user mapping of a page that was freed",
            Diagnosis::LinearMap => "the kernel's linear map, left writable",
            Diagnosis::NamedRange => "a mapping in a named range, freed or not",
            Diagnosis::CachedSlot => "a cached slot that was not flushed",
            Diagnosis::LazyArea => "a lazily freed mapping that was not flushed",
            Diagnosis::Held => "a reference that no mapping explains",
            Diagnosis::NotListed => "mappings that the log doesn't list",
        }
    }

    /// What it is called where there is room for two words.
    pub(super) fn short(self) -> &'static str {
        match self {
            Diagnosis::CacheType => "memory type",
            Diagnosis::Borrowed => "granted page",
            Diagnosis::Live => "in use",
            Diagnosis::Device => "device",
            Diagnosis::User => "user mapping",
            Diagnosis::LinearMap => "linear map",
            Diagnosis::NamedRange => "named range",
            Diagnosis::CachedSlot => "cached slot",
            Diagnosis::LazyArea => "lazily freed",
            Diagnosis::Held => "held",
            Diagnosis::NotListed => "not listed",
        }
    }

    /// What probably happened.
    pub(super) fn explanation(self) -> &'static str {
        match self {
            Diagnosis::CacheType => {
                "One view of the page goes through the processor's caches and another goes around \
                 them, or through them otherwise. What is written through one may be seen late, or \
                 never, through the other, and a line that is evicted later overwrites what the \
                 device has put there."
            }
            Diagnosis::Borrowed => {
                "The page was granted to another domain, which has it mapped writable still. \
                 Meanwhile its owner freed it and took it for a page table."
            }
            Diagnosis::Live => {
                "As far as the guest has told, this mapping is in use: somebody still reads and \
                 writes the page that was handed out as a page table. That is a use after free, \
                 or a page that has two owners; no flush will cure it."
            }
            Diagnosis::Device => {
                "The range is one through which a device reaches memory, and its transfer is under \
                 way: the page was freed, and handed out as a page table, before the device was \
                 done with it. The range's name says which device."
            }
            Diagnosis::User => {
                "A process has the page mapped still: it was freed without the process's entry \
                 being cleared, or a reference to it (direct I/O, a pinned buffer) was given back \
                 too early. The process could have written page tables of its own."
            }
            Diagnosis::LinearMap => {
                "This is the page's place in the guest kernel's mapping of all its memory. A page \
                 that becomes a page table must be made read-only there first, and that was \
                 forgotten (or undone before the pin)."
            }
            Diagnosis::NamedRange => {
                "The guest named the range but doesn't say which of its pages are freed, so this \
                 may be a mapping that waits for its lazy flush (harmless but for the refusal), or \
                 one that is in use (a use after free)."
            }
            Diagnosis::CachedSlot => {
                "The slot was given back, but keeps its page mapped in case it is wanted again \
                 soon. The page was freed meanwhile, and its next owner made it a page table."
            }
            Diagnosis::LazyArea => {
                "The guest freed the area, but put off clearing its entries, since each clearing \
                 costs a flush on every processor. The pages themselves were freed at once; one of \
                 them was handed out as a page table while its old mapping still stood."
            }
            Diagnosis::Held => {
                "No entry maps the page writable, yet it counts as written to: something other \
                 than a table holds it, such as a device's transfer under way, a grant in use, or \
                 a page that the hypervisor writes to for the guest."
            }
            Diagnosis::NotListed => {
                "The records that list the mappings are not in the log: it was cut, or the domain \
                 was over its limit of records."
            }
        }
    }

    /// What cures it.
    pub(super) fn remedy(self) -> &'static str {
        match self {
            Diagnosis::CacheType => {
                "Change a page's memory type in one step, when all its mappings are gone: \
                 Mmu::set_memory_type of the shim shoots them down and flushes the caches first."
            }
            Diagnosis::Borrowed => {
                "End the grant before the page is freed: the borrower unmaps it, then the owner's \
                 end of access must succeed. Only then is the page free."
            }
            Diagnosis::Live => {
                "Find who uses the address, and let the page live as long as its mapping: unmap \
                 before freeing, or hold a reference for each mapping (the shim's \
                 Policy::HoldRefs does)."
            }
            Diagnosis::Device => {
                "Hold a reference to each page for as long as a transfer uses it, whatever becomes \
                 of the object and of its mappings meanwhile; the page is free when the last \
                 reference is gone (the shim's `dma` does so)."
            }
            Diagnosis::User => {
                "Clear the process's entry and flush before the page is freed; hold a reference \
                 for each transfer that is under way (the shim's DMA pins do)."
            }
            Diagnosis::LinearMap => {
                "Make the page read-only in the linear map before the pin, writable again only \
                 after the unpin. Mmu::pin of the shim does both."
            }
            Diagnosis::NamedRange => {
                "Register the range's freed pages (pinfold_op freed_map) to know which it is. If \
                 freed: clear the page's lazy mappings before the pin. If not: find the user."
            }
            Diagnosis::CachedSlot => {
                "Flush the slots that nobody uses before a pin. In the shim: pin through Mmu::pin, \
                 whose before_pin clears those of the pinned frames, or call Mmu::purge_kmap."
            }
            Diagnosis::LazyArea => {
                "Clear the lazy mappings of a page before it is pinned. In the shim: Mmu::pin with \
                 Policy::Targeted clears those of the pinned frames and nothing else; \
                 Mmu::set_table_pool takes even that out of the pin. Without the shim: pinfold_op \
                 shootdown before the pin, or alias_upcall to be asked."
            }
            Diagnosis::Held => {
                "Wait for the end of the transfer or of the grant before the page is freed: count \
                 references to pages that are under I/O, and free a page only at zero."
            }
            Diagnosis::NotListed => {
                "Run it again with a log that is whole; if records were left out, make fewer \
                 violations at a time."
            }
        }
    }
}

/// True if an address is where a linear map of all memory has the page.
fn is_linear(va: u64, pfn: Option<u64>) -> bool {
    let base =
        pfn.and_then(|pfn| pfn.checked_mul(4096)).and_then(|at| (va & !0xfff).checked_sub(at));
    base.is_some_and(|base| base % LINEAR_ALIGNMENT == 0)
}

impl Violation {
    /// The pseudo-physical number of its frame.
    pub(super) fn pfn(&self) -> Option<u64> {
        self.fields.number("pfn")
    }

    fn diagnosed(&self) -> Diagnosis {
        if self.rule == Rule::Cache {
            return Diagnosis::CacheType;
        }
        let pfn = self.pfn();
        let worst = self.mappings.iter().map(|mapping| Diagnosis::of(mapping, pfn)).min();
        worst.unwrap_or(match self.search.get("found") {
            Some("0") if self.search.get("cut_short") != Some("yes") => Diagnosis::Held,
            _ => Diagnosis::NotListed,
        })
    }

    /// The mapping that decides what the violation is.
    pub(super) fn worst(&self) -> Option<&Mapping> {
        let pfn = self.pfn();
        self.mappings.iter().min_by_key(|mapping| Diagnosis::of(mapping, pfn))
    }
}

impl Report {
    /// Judges every violation.
    pub(super) fn diagnose(&mut self) {
        for violation in &mut self.violations {
            violation.diagnosis = violation.diagnosed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(va: u64, region: Option<&str>, state: State, pfn: u64) -> Diagnosis {
        let region = region.map(str::to_owned);
        let va = Some(format!("{va:#x}"));
        Diagnosis::of(&Mapping { va, region, state, ..Mapping::default() }, Some(pfn))
    }

    #[test]
    fn the_evidence_decides() {
        let (high, pfn) = (0xffff_9000_0000_3000, 0x7a4);
        assert_eq!(of(high, Some("fs_buf"), State::Dead, pfn), Diagnosis::LazyArea);
        assert_eq!(of(high, Some("kmap"), State::Dead, pfn), Diagnosis::CachedSlot);
        assert_eq!(of(high, Some("fs_buf"), State::Unknown, pfn), Diagnosis::NamedRange);
        assert_eq!(of(high, Some("fs_buf"), State::Live, pfn), Diagnosis::Live);
        assert_eq!(of(high, Some("dma:disk0"), State::Live, pfn), Diagnosis::Device);
        assert_eq!(of(high, None, State::Live, pfn), Diagnosis::Live);
        assert_eq!(of(0x40_0000, None, State::Live, pfn), Diagnosis::User);
        assert_eq!(
            of(0xffff_8880_0000_0000 + (pfn << 12), None, State::Live, pfn),
            Diagnosis::LinearMap
        );
        assert_eq!(
            of(0xffff_8880_0000_0000 + (pfn << 12), None, State::Live, pfn + 1),
            Diagnosis::Live
        );
        let lent = Mapping { borrower: Some("d2".into()), ..Mapping::default() };
        assert_eq!(Diagnosis::of(&lent, None), Diagnosis::Borrowed);
    }

    #[test]
    fn the_worst_mapping_decides() {
        let log = "[   0.100000] d1v0 ALIAS id=1 op=pin_l1 pfn=0x7a4\n\
            [   0.100001] d1v0 MAPPING id=1 va=0xffff900000000000 region=\"buf\" state=dead\n\
            [   0.100002] d1v0 MAPPING id=1 va=0xffff900000001000 region=none state=live\n\
            [   0.200000] d1v0 ALIAS id=2 op=pin_l1\n\
            [   0.200001] d1v0 MAPPING id=2 end=yes found=0 cut_short=no\n\
            [   0.300000] d1v0 ALIAS id=3 op=pin_l1\n\
            [   0.400000] d1v0 CACHE id=4 op=update wanted=wc present=wb\n\
            [   0.400001] d1v0 MAPPING id=4 va=0xffff900000000000 region=\"buf\" state=dead\n";
        let report = Report::read(log);
        let found: Vec<_> = report.violations.iter().map(|one| one.diagnosis).collect();
        use Diagnosis::{CacheType, Held, Live, NotListed};
        assert_eq!(found, [Live, Held, NotListed, CacheType]);
        assert_eq!(report.violations[0].worst().unwrap().va.as_deref(), Some("0xffff900000001000"));
    }
}
