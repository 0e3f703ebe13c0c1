//! Output that must be the same at every log level.

/// Durations and counts of timer ticks, which differ from run to run. The number behind each of these
/// words is left out of the comparison.
const TIMES: &[&str] = &["preemptions: ", "ticks=", "_ns: "];

/// A line without its times.
fn timeless(line: &str) -> String {
    let mut out = line.to_owned();
    for name in TIMES {
        let mut pieces = out.split(name);
        let first = pieces.next().unwrap_or_default().to_owned();
        out = pieces.fold(first, |before, after| {
            let after = after.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{before}{name}#{after}")
        });
    }
    out
}

/// Checks that the same was printed at two levels, but for times.
pub(in crate::test) fn check_same(here: &[String], there: &[String]) -> Result<(), String> {
    if here.is_empty() {
        return Err("nothing was printed, so nothing is compared".into());
    }
    for at in 0..here.len().max(there.len()) {
        let line = |lines: &[String]| lines.get(at).map_or("nothing".into(), |line| timeless(line));
        let (ours, theirs) = (line(here), line(there));
        if ours != theirs {
            return Err(format!("`{ours}` at the usual level, `{theirs}` at this one"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_must_be_the_same_at_every_level() {
        let lines = |text: &[&str]| text.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        assert!(check_same(&lines(&["a", "b"]), &lines(&["a", "b"])).is_ok());
        for there in [&["a"][..], &["a", "c"], &["a", "b", "c"]] {
            assert!(check_same(&lines(&["a", "b"]), &lines(there)).is_err(), "{there:?}");
        }
        assert!(check_same(&[], &[]).is_err());
        let stats = |flushes: u8, preemptions: u8| {
            vec![format!(
                "Stats {{ flushes: {flushes}, preemptions: {preemptions}, healed: 0, ipi_ns: {0}, irq_off_ns: {0} }}",
                preemptions * 7
            )]
        };
        assert!(check_same(&stats(1, 2), &stats(1, 30)).is_ok());
        assert!(check_same(&stats(1, 2), &stats(2, 2)).is_err());
    }
}
