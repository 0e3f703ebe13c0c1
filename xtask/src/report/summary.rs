//! Violations that are alike: what a person looks at first.

use super::diagnosis::Diagnosis;
use super::model::{Call, Report};
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

/// Violations of one domain with the same cause, in the same ranges, asked for at the same place.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Group {
    /// How many.
    pub(super) count: u64,
    /// The domain's number.
    pub(super) domain: Option<u16>,
    /// What they are.
    pub(super) diagnosis: Diagnosis,
    /// The same in words.
    pub(super) what: String,
    /// The guest's names for the ranges that their mappings lie in.
    pub(super) regions: Vec<String>,
    /// Where in the guest's source they were asked for: the innermost calls that aren't the
    /// shim's.
    pub(super) askers: Vec<Call>,
    /// How many of each operation.
    pub(super) operations: BTreeMap<String, u64>,
    /// Time of the first.
    pub(super) first: f64,
    /// Time of the last.
    pub(super) last: f64,
    /// How many the guest healed when told of them.
    pub(super) healed: u64,
    /// What probably happened.
    #[serde(rename = "story")]
    pub(super) explanation: String,
    /// What cures it.
    #[serde(rename = "cure")]
    pub(super) remedy: String,
    /// Their places in the list of violations.
    pub(super) members: Vec<usize>,
}

impl Group {
    /// Its regions in words; empty if there are none.
    pub(super) fn in_regions(&self) -> String {
        match self.regions.as_slice() {
            [] => String::new(),
            [one] => format!("in region {one}"),
            many => format!("in regions {}", many.join(", ")),
        }
    }

    /// Its operations in words, most frequent first.
    pub(super) fn operations(&self) -> String {
        let mut operations: Vec<_> = self.operations.iter().collect();
        operations.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let shown = operations.iter().map(|(op, count)| format!("{op} {count}"));
        shown.collect::<Vec<_>>().join(", ")
    }
}

impl Report {
    /// Puts together what is alike. To be done when the addresses have their names.
    pub(super) fn summarize(&mut self) {
        let mut groups: BTreeMap<_, Group> = BTreeMap::new();
        for (at, violation) in self.violations.iter().enumerate() {
            let mut regions: Vec<&str> =
                violation.mappings.iter().filter_map(|one| one.region.as_deref()).collect();
            regions.sort_unstable();
            regions.dedup();
            let (domain, diagnosis) = (violation.domain, violation.diagnosis);
            let askers = violation.askers();
            let group = groups.entry((domain, diagnosis, regions.clone(), askers));
            let group = group.or_insert_with(|| Group {
                count: 0,
                domain,
                diagnosis,
                what: diagnosis.title().into(),
                regions: regions.iter().map(|name| (*name).to_owned()).collect(),
                askers: askers.to_vec(),
                operations: BTreeMap::new(),
                first: violation.time,
                last: violation.time,
                healed: 0,
                explanation: diagnosis.explanation().into(),
                remedy: diagnosis.remedy().into(),
                members: Vec::new(),
            });
            group.count += 1;
            *group.operations.entry(violation.op().to_owned()).or_default() += 1;
            group.first = group.first.min(violation.time);
            group.last = group.last.max(violation.time);
            group.healed += u64::from(violation.healed);
            group.members.push(at);
        }
        let mut groups: Vec<Group> = groups.into_values().collect();
        groups.sort_by_key(|group| (std::cmp::Reverse(group.count), group.diagnosis));
        self.summary = groups;
    }

    /// The kinds by what they are, each with its place in the summary; the most violations first.
    pub(super) fn causes(&self) -> Vec<(Diagnosis, Vec<(usize, &Group)>)> {
        let mut causes: BTreeMap<Diagnosis, Vec<(usize, &Group)>> = BTreeMap::new();
        for (number, group) in self.summary.iter().enumerate() {
            causes.entry(group.diagnosis).or_default().push((number, group));
        }
        let mut causes: Vec<_> = causes.into_iter().collect();
        causes.sort_by_key(|(_, groups)| {
            std::cmp::Reverse(groups.iter().map(|(_, group)| group.count).sum::<u64>())
        });
        causes
    }

    /// One sentence about the violations.
    pub(super) fn headline(&self) -> String {
        let count = self.violations.len();
        if count == 0 {
            return "No violations.".into();
        }
        let domains: std::collections::BTreeSet<_> =
            self.violations.iter().map(|one| one.domain).collect();
        let times = || self.violations.iter().map(|one| one.time);
        let (first, last) = (times().fold(f64::MAX, f64::min), times().fold(0.0, f64::max));
        let healed = self.violations.iter().filter(|one| one.healed).count();
        let mut line = format!(
            "{count} violation{}, {} kind{}, in {} domain{}, from {first:.3} s to {last:.3} s",
            plural(count),
            self.summary.len(),
            plural(self.summary.len()),
            domains.len(),
            plural(domains.len()),
        );
        if healed > 0 {
            line += &format!("; {healed} healed by the guest when told");
        }
        line + "."
    }
}

/// The `s` of a plural.
pub(super) fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alike_ones_are_put_together() {
        let mut log = String::new();
        for id in 0..6 {
            let (region, time) = (if id < 4 { "a" } else { "b" }, id + 1);
            log += &format!(
                "[   {time}.000000] d1v0 ALIAS id={id} op=pin_l{} frame=0x1\n\
                 [   {time}.000001] d1v0 MAPPING id={id} va=0xffff900000000000 region=\"{region}\" state=dead\n",
                1 + id % 2
            );
        }
        log += "[   9.000000] d1v0 HEALED id=5 op=pin_l2\n";
        let mut report = Report::read(&log);
        report.summarize();
        let [a, b] = report.summary.as_slice() else { panic!("{:?}", report.summary) };
        assert_eq!((a.count, a.in_regions().as_str()), (4, "in region a"));
        assert_eq!((b.count, b.healed, b.members.as_slice()), (2, 1, &[4, 5][..]));
        assert_eq!((a.first, a.last, a.operations().as_str()), (1.0, 4.0, "pin_l1 2, pin_l2 2"));
        assert_eq!(
            report.headline(),
            "6 violations, 2 kinds, in 1 domain, from 1.000 s to 6.000 s; 1 healed by the guest when told."
        );
    }
}
