//! The report's page in a real browser: light and dark, wide and narrow, empty and huge; and, so
//! that the looking itself is proved, pages with something wrong that must be found.

use super::list::{Part, Test, When};
use crate::browser::{Browser, Seen, View};
use crate::fetch::chromium;
use crate::paths;
use crate::report::{SAMPLE, page_of};
use libtest_mimic::{Completion, Failed};
use std::sync::LazyLock;

const WIDE: View = View { name: "wide", size: (1200, 3200), dark: false };
const DARK: View = View { name: "dark", size: (1200, 3200), dark: true };
const NARROW: View = View { name: "narrow", size: (520, 3200), dark: false };
/// A page with thousands of violations must be laid out in this time, on a busy machine.
const HUGE_MS: f64 = 3000.0;

/// The browser, or why there is none.
static BROWSER: LazyLock<Result<Browser, String>> = LazyLock::new(|| {
    let open = || {
        let program = chromium::ensure()?;
        Ok::<_, anyhow::Error>(Browser::new(program, &paths::run_dir("test-page")?))
    };
    open().map_err(|error| format!("{error:#}"))
});

/// A check in the browser. The error says what was wrong.
type Check = fn(&Browser) -> Result<(), String>;

/// The tests.
pub(super) fn tests() -> Vec<Test> {
    let test = |name: &str, about: &str, check: Check| Test {
        part: Part::Page,
        name: name.into(),
        about: about.into(),
        when: When::Always,
        run: Box::new(move || run(check)),
    };
    vec![
        test("page-wide", "the page has no mistake in a wide window", |browser| {
            good(browser, WIDE, SAMPLE)
        }),
        test("page-dark", "the page has no mistake in dark mode", |browser| {
            good(browser, DARK, SAMPLE)
        }),
        test("page-narrow", "the page has no mistake in a narrow window", |browser| {
            good(browser, NARROW, SAMPLE)
        }),
        test("page-empty", "the page of an empty log has no mistake", |browser| {
            good(browser, View { name: "empty", ..WIDE }, "")
        }),
        test("page-huge", "a page of 12,000 violations is laid out in three seconds", huge),
        test("page-with-mistakes", "the check finds each kind of mistake", mistakes),
    ]
}

fn run(check: Check) -> Result<Completion, Failed> {
    match &*BROWSER {
        Ok(browser) => check(browser).map(|()| Completion::Completed).map_err(Failed::from),
        Err(why) => Ok(Completion::ignored_with(why)),
    }
}

fn look(browser: &Browser, page: &str, view: View) -> Result<Seen, String> {
    browser.look(page, view).map_err(|error| format!("{error:#}"))
}

/// A page with nothing wrong.
fn good(browser: &Browser, view: View, log: &str) -> Result<(), String> {
    let (page, kinds) = page_of(log);
    let seen = look(browser, &page, view)?;
    let shown = paths::shown(&seen.screenshot);
    if !seen.wrong.is_empty() {
        return Err(format!("{} ({shown})", seen.wrong.join("; ")));
    }
    if seen.cards != kinds as u64 {
        return Err(format!("{} cards for {kinds} kinds", seen.cards));
    }
    if !log.is_empty() && (seen.measured[0] < 6 || seen.measured[1] < 60 || seen.measured[2] < 60) {
        return Err(format!("only {:?} pictures, texts and shapes", seen.measured));
    }
    // A blank page has one colour, text alone some dozens of grey.
    let least = if log.is_empty() { 20 } else { 200 };
    if seen.colours < least {
        return Err(format!("only {} colours in {shown}", seen.colours));
    }
    if (seen.brightness < 110.0) != view.dark {
        return Err(format!("{shown} has the brightness {:.0}", seen.brightness));
    }
    Ok(())
}

/// Thousands of violations.
fn huge(browser: &Browser) -> Result<(), String> {
    let mut log = String::from("[   0.000000] d1 START name=\"x\"\n");
    for id in 0..12_000 {
        log += &format!(
            "[{:>4}.{:06}] d1v0 ALIAS id={id} op=pin_l{} frame={id:#x} count=1 wanted=l1 seen=writable pfn={id:#x}\n\
             [{:>4}.{:06}] d1v0 MAPPING id={id} va=0xffff9000{:08x} table=0x77 index=3 region=\"r{}\" state=dead\n",
            id / 100,
            id % 100,
            id % 4 + 1,
            id / 100,
            id % 100,
            id * 4096,
            id % 9
        );
    }
    let view = View { name: "huge", ..WIDE };
    let (page, _) = page_of(&log);
    good(browser, view, &log)?;
    let seen = look(browser, &page, view)?;
    if seen.took_ms > HUGE_MS {
        return Err(format!("it took {:.0} ms to lay out {} bytes", seen.took_ms, page.len()));
    }
    Ok(())
}

/// Mistakes for a page, and how each must be called.
const MISTAKES: &[(&str, &str)] = &[
    ("<p style=\"width:3000px\">wide</p>", "wider than the window"),
    ("<svg width=400 height=200></svg>", "without words"),
    ("<svg PICTURE><rect width=0 height=0 /></svg>", "a shape of no size"),
    ("<svg PICTURE><rect width=9 height=9 x=900 /></svg>", "a shape outside"),
    ("<svg PICTURE><rect width=9 height=9 fill=none /></svg>", "without colour"),
    ("<svg PICTURE><text x=390 y=50>much too long</text></svg>", "outside of its picture"),
    (
        "<svg PICTURE><text x=50 y=50>one on</text><text x=52 y=51>two</text></svg>",
        "text upon text",
    ),
    (
        "<svg PICTURE><g class=box><rect width=20 height=20 /><text y=15>too long</text></g></svg>",
        "outside of its box",
    ),
    ("<p style=\"color:#ccc;background:#fff\">faint</p>", "too faint: faint"),
    ("<a href=\"#none\">link</a>", "link to nowhere"),
    ("<h1 id=kind-0>twice</h1>", "stands twice"),
    ("<img src=\"x.png\">", "from outside"),
    ("<script>no.such.thing()</script>", "no is not defined"),
];

/// Each of them must be found, and named.
fn mistakes(browser: &Browser) -> Result<(), String> {
    let (page, _) = page_of(SAMPLE);
    let all: String = MISTAKES.iter().map(|(mistake, _)| *mistake).collect();
    let words = "width=400 height=200 role=img aria-label=\"a picture with words\"";
    let broken = page.replacen("</main>", &(all.replace("PICTURE", words) + "</main>"), 1);
    let seen = look(browser, &broken, View { name: "mistakes", ..WIDE })?;
    for (mistake, named) in MISTAKES {
        if !seen.wrong.iter().any(|wrong| wrong.contains(named)) {
            return Err(format!("`{mistake}` was not found ({named}): {:?}", seen.wrong));
        }
    }
    Ok(())
}
