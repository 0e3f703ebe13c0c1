//! Records that lack a key or have a garbled one: what can be read of them is kept.

use super::*;

impl Report {
    /// Takes a record that is not whole.
    pub(super) fn damaged(&mut self, reading: &mut Reading, record: &Record<'_>, id: Option<u16>) {
        let text = |key| record.field(key);
        let number = |key| record.number(key);
        let reason = text("reason").unwrap_or("for no reason given");
        match (record.head.kind, id) {
            (kind::START, Some(id)) => self.start(id, text("name").unwrap_or_default()),
            (kind::NOSTART, id) => {
                let reason = text("reason").unwrap_or(record.body);
                self.no_start(id, text("name").unwrap_or_default(), reason);
            }
            (kind::SHUTDOWN, Some(id)) => {
                self.domain(id).ended = format!("shut down: {reason}");
            }
            (kind::CRASH, id) => self.crash(record, id, reason),
            (kind::MARK, Some(id)) => {
                reading.marks.insert(id, record.body.into());
            }
            (kind::ALIAS, id) => self.violation(reading, record, id, Rule::Alias, number("id")),
            (kind::CACHE, id) => self.violation(reading, record, id, Rule::Cache, number("id")),
            (kind::MAPPING, _) => {
                let part = match text("end") {
                    Some(_) => Part::Search(search_fields(record)),
                    None => Part::Mapping(Mapping::of_damaged(fields(record))),
                };
                self.part(reading, number("id"), part);
            }
            (kind::HEALED, _) => self.part(reading, number("id"), Part::Healed),
            (kind::FRAMES, Some(id)) => match (number("first"), number("frames")) {
                // Without its map: the frames count as lost.
                (Some(first), Some(frames)) => self.frames(id, first, frames, Map::Items(&[])),
                _ => self.skipped.damaged += 1,
            },
            (kind::REFUSED, id) => {
                let [op, cause] = ["op", "cause"].map(|key| text(key).unwrap_or_default());
                let why = text("why").unwrap_or(record.body);
                self.refusal(reading, record, id, op, cause, why);
            }
            (kind::DUMP, id) => self.dump(id, record),
            (kind::DROPPED, id) => self.dropped(id, number("records").unwrap_or(1)),
            (kind::END, _) => self.end = fields(record),
            _ => {}
        }
    }
}
