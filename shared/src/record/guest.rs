//! Lines that guests print on their console and the tool reads. They stand behind the head of a
//! record of kind [`kind::CONSOLE`](super::kind::CONSOLE), so a guest speaks only for itself.

use core::fmt;

/// `VERDICT pass ...` or `VERDICT fail ...`: what a guest says of itself at its end.
///
/// ```
/// use pinfold_abi::record::Verdict;
/// let verdict = Verdict::parse("VERDICT fail wrong=2").unwrap();
/// assert!(!verdict.passed);
/// assert_eq!(verdict.figures, "wrong=2");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict<'a> {
    /// True for `pass`; any other word is a failure.
    pub passed: bool,
    /// What follows: fields as a rule.
    pub figures: &'a str,
}

impl<'a> Verdict<'a> {
    /// Reads a line; `None` if it is no verdict.
    pub fn parse(line: &'a str) -> Option<Verdict<'a>> {
        let rest = line.trim().strip_prefix("VERDICT ")?;
        let (word, figures) = rest.split_once(' ').unwrap_or((rest, ""));
        Some(Verdict { passed: word == "pass", figures })
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.passed { "VERDICT pass" } else { "VERDICT fail" })?;
        if self.figures.is_empty() { Ok(()) } else { write!(f, " {}", self.figures) }
    }
}

/// `SCENARIO 1 form=broken ...`: a figure of one of the guest's scenarios of stray mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScenarioLine<'a> {
    /// Number or name of the scenario.
    pub scenario: &'a str,
    /// What follows: `form=broken` or `form=fixed`, and figures.
    pub fields: &'a str,
}

impl<'a> ScenarioLine<'a> {
    /// Reads a line; `None` if it is about no scenario.
    pub fn parse(line: &'a str) -> Option<ScenarioLine<'a>> {
        let rest = line.trim().strip_prefix("SCENARIO ")?;
        let (scenario, fields) = rest.split_once(' ').unwrap_or((rest, ""));
        Some(ScenarioLine { scenario, fields })
    }
}

impl fmt::Display for ScenarioLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SCENARIO {} {}", self.scenario, self.fields)
    }
}

/// `CURVE policy=targeted outstanding=64 ...`: a point of the guest's cost curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurveLine<'a> {
    /// `policy=` and `outstanding=`, and figures.
    pub fields: &'a str,
}

impl<'a> CurveLine<'a> {
    /// Reads a line; `None` if it is no point of a curve.
    pub fn parse(line: &'a str) -> Option<CurveLine<'a>> {
        line.trim().strip_prefix("CURVE ").map(|fields| CurveLine { fields })
    }
}
