//! Pictures: a thin layer over SVG that measures text by counting characters, keeps a guest's text
//! text, and gives every picture words for those who can't see it.

use std::fmt::Write;

/// Width of a character of the monospaced font, as a part of its size. DejaVu Sans Mono has 0.602,
/// and nothing common is wider.
const ADVANCE: f64 = 0.61;
/// Size of the text in pictures, in pixels.
pub(super) const TEXT: f64 = 12.0;
/// Distance of lines of text.
pub(super) const LEADING: f64 = 16.0;

/// A picture under way.
#[derive(Debug)]
pub(super) struct Svg {
    width: f64,
    height: f64,
    body: String,
}

/// Where a text hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    /// Its beginning is at the point.
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

/// A rectangle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    /// Left side.
    pub(super) x: f64,
    /// Top.
    pub(super) y: f64,
    /// Width.
    pub(super) w: f64,
    /// Height.
    pub(super) h: f64,
}

impl Svg {
    /// An empty picture.
    pub(super) fn new(width: f64, height: f64) -> Svg {
        Svg { width, height, body: String::new() }
    }

    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(text);
        self.body.push('\n');
    }

    /// A rectangle, with a note that is shown when the pointer rests on it.
    pub(super) fn rect(&mut self, area: Area, class: &str, note: &str) {
        let Area { x, y, w, h } = area;
        let note = if note.is_empty() {
            String::new()
        } else {
            format!("<title>{}</title>", escape(note))
        };
        self.add(format_args!(
            "<rect class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\">{note}</rect>"
        ));
    }

    /// A line of text; what doesn't fit into `room` pixels is cut off.
    pub(super) fn text(
        &mut self,
        at: (f64, f64),
        anchor: Anchor,
        room: f64,
        class: &str,
        text: &str,
    ) {
        let anchor = match anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let (x, y) = at;
        let shown = escape(&clip(text, room));
        self.add(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\"{anchor}>{shown}</text>"
        ));
    }

    /// A box with lines of text, each with its class.
    pub(super) fn boxed(&mut self, area: Area, class: &str, lines: &[(&str, String)]) {
        self.add(format_args!("<g class=\"box {class}\">"));
        let Area { x, y, w, h } = area;
        self.add(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"6\"/>"
        ));
        let top = y + (h - LEADING * lines.len() as f64) / 2.0 + TEXT;
        for (number, (class, line)) in lines.iter().enumerate() {
            let baseline = top + LEADING * number as f64;
            self.text((x + 10.0, baseline), Anchor::Start, w - 18.0, class, line);
        }
        self.add(format_args!("</g>"));
    }

    /// A path of SVG's own language.
    pub(super) fn path(&mut self, class: &str, data: &str) {
        self.add(format_args!("<path class=\"{class}\" d=\"{data}\"/>"));
    }

    /// A straight line.
    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        self.path(class, &format!("M{:.1} {:.1}L{:.1} {:.1}", from.0, from.1, to.0, to.1));
    }

    /// A curve from left or right to a point, with an arrow head there.
    pub(super) fn arrow(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let middle = (from.0 + to.0) / 2.0;
        let back = if to.0 > from.0 { -8.0 } else { 8.0 };
        self.path(
            &format!("arrow {class}"),
            &format!(
                "M{:.1} {:.1}C{middle:.1} {:.1} {middle:.1} {:.1} {:.1} {:.1}",
                from.0, from.1, from.1, to.1, to.0, to.1
            ),
        );
        self.path(&format!("head {class}"), &format!("M{:.1} {:.1}l{back:.1} -4l0 8z", to.0, to.1));
    }

    /// The picture; `words` say what is to be seen.
    pub(super) fn finish(self, words: &str) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"picture\" role=\"img\" aria-label=\"{}\" \
             viewBox=\"0 0 {w:.0} {h:.0}\" width=\"{w:.0}\" height=\"{h:.0}\">\n{}</svg>\n",
            escape(words),
            self.body,
            w = self.width,
            h = self.height
        )
    }
}

/// As much of a text as fits into a width.
pub(super) fn clip(text: &str, room: f64) -> String {
    let fits = (room / (TEXT * ADVANCE)).max(1.0) as usize;
    if text.chars().count() <= fits {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(fits.saturating_sub(1)).collect();
    out.push('…');
    out
}

/// Text of a guest must stay text.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '&' => out += "&amp;",
            '"' => out += "&quot;",
            // Not allowed in SVG files, and of no use in pages.
            c if c.is_control() && c != '\n' && c != '\t' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Steps of an axis: round numbers, at most so many, that lie between two others.
pub(super) fn ticks(from: f64, to: f64, most: usize) -> Vec<f64> {
    let span = to - from;
    if !span.is_finite() || span <= 0.0 {
        return vec![from];
    }
    let rough = span / most.max(1) as f64;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|step| *step >= rough)
        .unwrap_or(10.0 * power);
    let first = (from / step).ceil();
    (0..=most).map(|n| (first + n as f64) * step).take_while(|tick| *tick <= to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_to_its_room() {
        assert_eq!(clip("short", 100.0), "short");
        assert_eq!(clip("0123456789", 40.0), "0123…");
        assert_eq!(escape("<a href=\"&\u{1}\">"), "&lt;a href=&quot;&amp;\u{fffd}&quot;&gt;");
    }

    #[test]
    fn axes_have_round_steps() {
        let shown = |from, to| {
            ticks(from, to, 8).iter().map(|tick| format!("{tick:.3}")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(shown(0.0, 10.0), "0.000 2.000 4.000 6.000 8.000 10.000");
        assert_eq!(shown(0.203, 0.329), "0.220 0.240 0.260 0.280 0.300 0.320");
        assert_eq!(shown(5.0, 5.0), "5.000");
    }
}
