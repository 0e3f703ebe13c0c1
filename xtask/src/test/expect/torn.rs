//! Records of the serial log that are not whole.

use pinfold_abi::record::{Record, kind};

/// Looks for records that are not whole.
#[derive(Debug, Default)]
pub(in crate::test) struct Torn {
    begun: bool,
    pub(in crate::test) found: Option<String>,
}

impl Torn {
    /// Takes a line of Pinfold's log. Before the first record the firmware speaks; what stands behind
    /// a guest's head is its own.
    pub(in crate::test) fn line(&mut self, line: &str) {
        let record = Record::parse(line);
        let guests = record.is_some_and(|record| record.head.kind == kind::CONSOLE);
        let glued = !guests && line.matches("] ").count() > 1;
        let whole = record.is_some() && !glued || line.is_empty();
        self.begun |= record.is_some();
        if self.begun && !whole && self.found.is_none() {
            self.found = Some(line.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torn_records_are_found() {
        let good = ["BdsDxe: starting", "[   0.000001] hv INFO ok", "[   0.000002] d1 | a] b] c"];
        for (bad, found) in [
            ("", false),
            ("[   0.000003] hv END ok=1", false),
            ("ok=1", true),
            ("[   0.0003] d1 MARK text=\"a\"", true),
            ("[   0.000003] d1 MARK a[   0.000004] hv END ok=1", true),
        ] {
            let mut torn = Torn::default();
            good.into_iter().chain([bad]).for_each(|line| torn.line(line));
            assert_eq!(torn.found.is_some(), found, "{bad}");
        }
    }
}
