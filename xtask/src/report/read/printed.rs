//! What guests print on their console and the report shows.

use super::*;
use pinfold_abi::record::{CurveLine, ScenarioLine};

impl Report {
    /// A line of a guest's console.
    pub(super) fn printed(&mut self, domain: u16, text: &str) {
        let text = text.trim();
        if let Some(verdict) = text.strip_prefix("VERDICT ") {
            self.domain(domain).verdict = Some(verdict.into());
        } else if let Some(line) = ScenarioLine::parse(text) {
            let mut fields = fields_of(line.fields);
            let form = fields.take("form").unwrap_or_default();
            self.scenarios.push(Scenario { domain, scenario: line.scenario.into(), form, fields });
        } else if let Some(line) = CurveLine::parse(text) {
            let mut fields = fields_of(line.fields);
            let policy = fields.take("policy").unwrap_or_default();
            let Some(outstanding) = fields.take("outstanding").as_deref().and_then(number) else {
                return;
            };
            let figure = |(key, value): (String, String)| {
                Some((key, value.parse().ok().filter(|value: &f64| value.is_finite())?))
            };
            let values = fields.0.into_iter().filter_map(figure).collect();
            self.curves.push(Point { domain, policy, outstanding, values });
        }
    }
}
