//! Output that must be the same on Pinfold and on Xen.

use std::collections::BTreeSet;

/// What a guest must print alike on both hypervisors.
#[derive(Clone, Copy, Debug)]
pub(in crate::test) struct Agree {
    /// First words of the lines that are compared.
    pub(in crate::test) lines: &'static [&'static str],
    /// What differs by nature: the beginning of the line, the field, and why.
    pub(in crate::test) but: &'static [(&'static str, &'static str, &'static str)],
    /// Lines with this first word may stand here only if they stand there as well, whatever
    /// their numbers are, or begin like one of these, each with the reason.
    pub(in crate::test) no_more: Option<(&'static str, &'static [(&'static str, &'static str)])>,
}

impl Agree {
    /// Checks that what was printed on one is what was printed on the other.
    pub(in crate::test) fn check(&self, here: &[String], there: &[String]) -> Result<(), String> {
        self.check_no_more(here, there)?;
        let (here, there) = (self.comparable(here), self.comparable(there));
        if here.is_empty() {
            return Err(format!("the guest printed no line with {}", self.lines.join(" or ")));
        }
        for at in 0..here.len().max(there.len()) {
            let line = |lines: &[String]| lines.get(at).cloned().unwrap_or("nothing".into());
            let (ours, theirs) = (line(&here), line(&there));
            if ours != theirs {
                return Err(format!("Pinfold and Xen differ: `{ours}` here, `{theirs}` there"));
            }
        }
        Ok(())
    }

    /// No line of the kind that must not stand here alone does.
    fn check_no_more(&self, here: &[String], there: &[String]) -> Result<(), String> {
        let Some((word, known)) = self.no_more else { return Ok(()) };
        let shapes = |lines: &[String]| -> BTreeSet<String> {
            let kind = |line: &&String| line.split(' ').next() == Some(word);
            lines.iter().filter(kind).map(|line| shape(line)).collect()
        };
        let (here, there) = (shapes(here), shapes(there));
        let expected = |line: &str| known.iter().any(|(start, _)| line.starts_with(start));
        match here.difference(&there).find(|line| !expected(line)) {
            Some(line) => Err(format!("only on Pinfold: `{line}`")),
            None => Ok(()),
        }
    }

    /// The lines that count, without the fields that do not.
    fn comparable(&self, lines: &[String]) -> Vec<String> {
        let of_interest =
            |line: &&String| line.split(' ').next().is_some_and(|word| self.lines.contains(&word));
        let kept = |line: &String| {
            let counts = |word: &&str| {
                let field = word.split_once('=').map_or(*word, |(field, _)| field);
                !self.but.iter().any(|(start, but, _)| line.starts_with(start) && field == *but)
            };
            line.split(' ').filter(counts).collect::<Vec<_>>().join(" ")
        };
        lines.iter().filter(of_interest).map(kept).collect()
    }
}

/// A line with every number, decimal or not, made the same.
fn shape(line: &str) -> String {
    let hollow = |word: &str| {
        let digits = word.trim_start_matches("0x").trim_end_matches([',', ':', '.', ')']);
        digits.contains(|c: char| c.is_ascii_digit())
            && digits.chars().all(|c| c.is_ascii_hexdigit() || "-.".contains(c))
    };
    line.split(' ').map(|word| if hollow(word) { "#" } else { word }).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGREE: Agree = Agree {
        lines: &["SUM"],
        but: &[("SUM a", "cost", "other machine")],
        no_more: Some(("COMPLAINT", &[("COMPLAINT no disk", "it has none")])),
    };

    fn held(here: &[&str], there: &[&str]) -> Result<(), String> {
        let own = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        AGREE.check(&own(here), &own(there))
    }

    #[test]
    fn only_listed_fields_may_differ() {
        assert!(held(&["x", "SUM a n=1 cost=2"], &["SUM a n=1 cost=3", "y"]).is_ok());
        assert!(held(&["SUM a n=1"], &["SUM a n=2"]).is_err());
        assert!(held(&["SUM b cost=1"], &["SUM b cost=2"]).is_err());
        assert!(held(&["SUM b n=1"], &[]).is_err());
        assert!(held(&["SUM b"], &["SUM b", "SUM c"]).is_err());
        assert!(held(&["x"], &["x"]).is_err(), "nothing compared proves nothing");
    }

    #[test]
    fn complaints_must_be_known_there() {
        let sum = "SUM b";
        let known = "COMPLAINT cpu 1 lock irq 35";
        assert!(held(&[sum, "COMPLAINT cpu 0 lock irq 0x7f"], &[known, sum]).is_ok());
        assert!(held(&[sum, "COMPLAINT no disk here"], &[sum]).is_ok());
        assert!(held(&[sum], &[known, sum]).is_ok());
        assert!(held(&[sum, "COMPLAINT cpu 0 clock irq 7"], &[known, sum]).is_err());
        assert!(held(&[sum, known], &[sum]).is_err());
    }
}
