//! `explain`: one violation in prose.

use super::diagnosis::Diagnosis;
use super::model::{Mapping, Report, Rule, State, Violation, chain};
use super::text::wrapped;

/// The violations with an id, walked through. The error lists the ids that there are.
pub(super) fn explain(report: &Report, id: u64) -> Result<String, String> {
    let found: Vec<String> = report
        .violations
        .iter()
        .filter(|one| one.id == Some(id))
        .map(|one| paragraphs(report, one).join("\n\n") + "\n")
        .collect();
    match found.as_slice() {
        [] => Err(unknown(report, id)),
        [one] => Ok(one.clone()),
        many => Ok(format!(
            "The log has {} violations with this id: several logs were joined, or it is garbled.\n\n{}",
            many.len(),
            many.join("\n---\n\n")
        )),
    }
}

fn unknown(report: &Report, id: u64) -> String {
    let mut ids: Vec<u64> = report.violations.iter().filter_map(|one| one.id).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.is_empty() {
        return format!("there is no violation {id}: the log has none that could be read");
    }
    // As ranges: there may be thousands.
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for id in ids {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == id => *last = id,
            _ => ranges.push((id, id)),
        }
    }
    let shown = ranges.iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        _ => format!("{first} to {last}"),
    });
    format!("there is no violation {id}; there are {}", shown.collect::<Vec<_>>().join(", "))
}

fn paragraphs(report: &Report, one: &Violation) -> Vec<String> {
    let wrap = |text: String| wrapped(&text, "", "");
    let mut out = vec![wrap(asked(report, one)), wrap(refused(one))];
    if one.mappings.is_empty() {
        out.push(wrap(no_mappings(one)));
    } else {
        let head = match one.mappings.len() {
            1 => "One mapping is in the way:".to_owned(),
            many => format!("{many} mappings are in the way:"),
        };
        let pfn = one.pfn();
        let mut lines = vec![head];
        lines.extend((1..).zip(&one.mappings).map(|(number, mapping)| {
            let text = format!("{}. {}", number, in_words(mapping, pfn));
            wrapped(&text, "  ", "     ")
        }));
        out.push(lines.join("\n"));
        if one.search.get("cut_short") == Some("yes") {
            out.push("The search met its bounds: there may be more.".into());
        }
    }
    out.push(wrap(format!("What probably happened: {}", one.diagnosis.explanation())));
    if one.healed {
        out.push(wrap(
            "It healed: Pinfold told the guest, which cleared the mappings, and the second try \
             went through. The cure spares the detour."
                .into(),
        ));
    }
    out.push(wrap(format!("Cure: {}", one.diagnosis.remedy())));
    out
}

/// Who asked for what, where and when.
fn asked(report: &Report, one: &Violation) -> String {
    let who = match one.domain {
        Some(id) => format!("{} ({})", one.who, report.domain_name(id)),
        None => one.who.clone(),
    };
    let mut text = format!("At {:.6} s {who} asked to {}.", one.time, operation(one));
    match chain(&one.calls) {
        Some(place) => text += &format!(" The call is in {place}."),
        None => {
            if let Some(rip) = one.fields.get("rip") {
                text += &format!(" The call is at {rip}, for which there are no symbols.");
            }
        }
    }
    if let Some(mark) = &one.mark {
        text += &format!(" The guest's last mark before it: \"{mark}\".");
    }
    text
}

/// What was asked for, to follow "to".
fn operation(one: &Violation) -> String {
    let frame = match one.fields.get("pfn").filter(|pfn| *pfn != "none") {
        Some(pfn) => format!("machine frame {} (the guest's page {pfn})", one.frame()),
        None => format!("machine frame {}", one.frame()),
    };
    let entry = one.fields.get("table").map(|table| {
        let (index, level) = (one.fields.get("index"), one.fields.get("level"));
        format!(
            "entry {} of the L{} table in frame {table}",
            index.unwrap_or("?"),
            level.unwrap_or("?")
        )
    });
    let wanted = one.fields.get("wanted").unwrap_or("?");
    match (one.rule, one.op().strip_prefix("pin_"), entry) {
        (Rule::Cache, ..) => {
            let present = one.fields.get("present").map(str::to_uppercase);
            format!(
                "map {frame} with the memory type {} ({}), while it is mapped as {}",
                wanted.to_uppercase(),
                one.op(),
                present.unwrap_or("?".into())
            )
        }
        (_, Some(level), None) => {
            format!("pin {frame} as a page table of level {}", level.trim_start_matches('l'))
        }
        (_, Some(level), Some(entry)) => format!(
            "pin a page table of level {}, and {entry} in it wants {frame} as {}",
            level.trim_start_matches('l'),
            kind(wanted)
        ),
        (_, None, Some(entry)) => {
            format!("do `{}`, in which {entry} wants {frame} as {}", one.op(), kind(wanted))
        }
        (_, None, None) => format!("do `{}` with {frame} as {}", one.op(), kind(wanted)),
    }
}

/// A kind of frame with its article.
fn kind(name: &str) -> String {
    match name.strip_prefix('l') {
        Some(level) if level.len() == 1 => format!("an L{level} table"),
        _ => format!("a {name} page"),
    }
}

/// Why that is not done.
fn refused(one: &Violation) -> String {
    let count = |key| one.fields.get(key);
    let mut text = match one.rule {
        Rule::Alias => {
            let mut text = match count("count") {
                Some("1") => "At that moment the frame had 1 writable mapping".to_owned(),
                Some(count) => format!("At that moment the frame had {count} writable mappings"),
                None => "At that moment the frame was mapped writable".to_owned(),
            };
            if let Some(refs) = count("refs") {
                text += &format!(" ({refs} references in all)");
            }
            text + ". A guest that can write to a page table can map any memory of the machine, so \
                    Pinfold refuses: no frame is a page table and mapped writable at once."
        }
        Rule::Cache => {
            "Mappings of one frame with different memory types make its content depend on \
             which of them one looks through, and on what the caches hold just then. A frame has \
             one memory type at a time."
                .to_owned()
        }
    };
    if let Some(why) = one.fields.get("why") {
        text += &format!(" In the log's words: {why}.");
    }
    text
}

fn no_mappings(one: &Violation) -> String {
    match (one.search.get("found"), one.search.get("cut_short")) {
        (Some("0"), Some("yes")) => {
            "The search for mappings met its bounds before it found one.".into()
        }
        (Some("0"), _) => {
            "No table of the domain has an entry that maps the frame writable.".into()
        }
        _ => "The log lists no mapping of it.".into(),
    }
}

/// A mapping, and what its state means.
fn in_words(mapping: &Mapping, pfn: Option<u64>) -> String {
    let mut text = match &mapping.va {
        Some(va) => format!("At {va}"),
        None => "At no address (its table hangs in no address space)".to_owned(),
    };
    if let Some(region) = &mapping.region {
        text += &format!(", in the range that the guest calls \"{region}\"");
    }
    if let (Some(index), Some(table)) = (mapping.index, &mapping.table) {
        text += &format!(", by entry {index} of the table in frame {table}");
    }
    if let Some(entry) = &mapping.entry {
        text += &format!(" ({entry})");
    }
    if let Some(memory_type) = &mapping.memory_type {
        text += &format!(", memory type {}", memory_type.to_uppercase());
    }
    if let Some(borrower) = &mapping.borrower {
        return text + &format!(". It belongs to {borrower}, to whom the page was granted.");
    }
    let linear = Diagnosis::of(mapping, pfn) == Diagnosis::LinearMap;
    text += match mapping.state {
        State::Dead => ". Dead: the guest has freed it, and only not cleared the entry yet.",
        State::Live if linear => ". It is the page's place in the kernel's map of all memory.",
        State::Live => ". Live: as far as the guest has told, it is in use.",
        State::Unknown => ". Dead or live is not known: the guest doesn't say what it has freed.",
    };
    if !mapping.other.0.is_empty() {
        text += &format!(" Also: {}.", mapping.other.joined());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
[   0.100000] d1 START name=\"stress\"
[   0.200000] d1 MARK text=\"round 3\"
[   0.300000] d1v0 ALIAS id=7 op=pin_l2 frame=0xbe1 wanted=l1 count=2 refs=4 level=2 table=0xc96 index=494 pfn=0x7a4 rip=0xffffffff80101f04 why=\"because\"
[   0.300001] d1v0 MAPPING id=7 va=0xffff900000003000 table=0xbcb index=3 entry=0x0000000000be1067 region=\"fs_buf\" state=dead
[   0.300002] d1v0 MAPPING id=7 va=0xffff900000004000 table=0xbcb index=4 entry=0x0000000000be1067 region=none state=live
[   0.300003] d1v0 MAPPING id=7 end=yes found=2 cut_short=no search_us=3
[   0.400000] d1v0 ALIAS id=8 op=pin_l1 frame=0x1 wanted=l1
[   0.500000] d1v0 CACHE id=9 op=update frame=0x2 wanted=wc present=wb why=\"mixed\"
[   0.600000] d1v0 ALIAS id=12 op=pin_l1 frame=0x1 wanted=l1
";

    #[test]
    fn everything_is_told() {
        let report = Report::read(LOG);
        let text = explain(&report, 7).unwrap().replace('\n', " ");
        for words in [
            "At 0.300000 s d1v0 (d1 stress) asked to pin a page table of level 2",
            "entry 494 of the L2 table in frame 0xc96 in it wants machine frame 0xbe1",
            "as an L1 table",
            "at 0xffffffff80101f04, for which there are no symbols",
            "\"round 3\"",
            "had 2 writable mappings (4 references in all)",
            "2 mappings are in the way",
            "1. At 0xffff900000003000, in the range that the guest calls \"fs_buf\", by entry 3",
            "Dead: the guest has freed it",
            "Live: as far as the guest has told",
            "use after free",
            "Cure: Find who uses the address",
        ] {
            let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(plain.contains(words), "{words}\n{plain}");
        }
        let cache = explain(&report, 9).unwrap().replace('\n', " ");
        assert!(cache.contains("memory type WC (update), while it is mapped as WB"), "{cache}");
    }

    #[test]
    fn unknown_ids_are_answered_with_the_known_ones() {
        let error = explain(&Report::read(LOG), 1).unwrap_err();
        assert_eq!(error, "there is no violation 1; there are 7 to 9, 12");
        assert!(explain(&Report::read(""), 1).unwrap_err().contains("none"));
    }
}
