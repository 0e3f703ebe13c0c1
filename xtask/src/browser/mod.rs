//! Looking at a page as a person would: headless Chromium draws it, a script in a copy of it
//! measures what was drawn, and the picture is counted for colours.
//!
//! What is looked for is in `check.js`: nothing overflows or lies upon something else, every shape
//! has a size, texts can be told from their ground, pictures have words, links lead somewhere.

use crate::fetch::debian::checked;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View {
    /// A name for its files.
    pub(crate) name: &'static str,
    /// The window, in pixels.
    pub(crate) size: (u32, u32),
    /// With dark colours.
    pub(crate) dark: bool,
}

/// What was seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// What is wrong, a line each.
    pub(crate) wrong: Vec<String>,
    /// Pictures, texts and shapes that were measured.
    pub(crate) measured: [u64; 3],
    /// Cards of kinds on the page.
    pub(crate) cards: u64,
    /// Milliseconds until all was laid out.
    pub(crate) took_ms: f64,
    /// The screenshot.
    pub(crate) screenshot: PathBuf,
    /// Different colours in the screenshot.
    pub(crate) colours: usize,
    /// Mean brightness of the screenshot, 0 to 255.
    pub(crate) brightness: f64,
}

/// A browser.
#[derive(Clone, Debug)]
pub(crate) struct Browser {
    program: &'static str,
    dir: PathBuf,
}

/// Marks what the script found in the dump of the page.
const MARK: &str = "pinfold-check:";
/// Colours that are counted at most.
const COLOURS: usize = 10_000;

impl Browser {
    /// A browser that keeps its files in a folder.
    pub(crate) fn new(program: &'static str, dir: &Path) -> Browser {
        Browser { program, dir: dir.to_path_buf() }
    }

    /// Opens a page and measures it.
    pub(crate) fn look(&self, page: &str, view: View) -> Result<Seen> {
        let file = self.dir.join(format!("{}.html", view.name));
        std::fs::write(&file, page)?;
        let screenshot = self.dir.join(format!("{}.png", view.name));
        let mut command = self.command(view);
        command.arg(format!("--screenshot={}", screenshot.display())).arg(url(&file)?);
        checked(&mut command).context("the browser took no picture")?;
        let (colours, brightness) = counted(&screenshot)?;

        // The script goes into a copy: the page itself forbids scripts.
        let open =
            page.find("<meta http-equiv=\"Content-Security-Policy\"").context("no policy")?;
        let close = open + page[open..].find('>').context("a tag without end")? + 1;
        let checked_page = format!(
            "{}{}<script>{}</script>",
            &page[..open],
            &page[close..],
            include_str!("check.js")
        );
        let file = self.dir.join(format!("{}-checked.html", view.name));
        std::fs::write(&file, checked_page)?;
        let mut command = self.command(view);
        let output = command
            .args(["--virtual-time-budget=20000", "--enable-logging=stderr", "--v=0", "--dump-dom"])
            .arg(url(&file)?)
            .output()
            .context("cannot start the browser")?;
        let (dom, said) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let found = dom.split_once(MARK).and_then(|(_, rest)| rest.split_once(":end"));
        let Some((json, _)) = found else {
            bail!("the script in the page didn't end; the browser said: {}", last(&said));
        };
        let json = json.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        let result: serde_json::Value = serde_json::from_str(&json).context("what it found")?;
        let texts = |key: &str| -> Vec<String> {
            let list = result[key].as_array().into_iter().flatten();
            list.filter_map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let mut wrong = texts("wrong");
        wrong.extend(said.lines().filter(|line| line.contains("CONSOLE")).map(str::to_owned));
        let number = |key: &str| result[key].as_u64().unwrap_or(0);
        Ok(Seen {
            wrong,
            measured: [number("pictures"), number("texts"), number("shapes")],
            cards: number("cards"),
            took_ms: result["took"].as_f64().unwrap_or(f64::MAX),
            screenshot,
            colours,
            brightness,
        })
    }

    fn command(&self, view: View) -> Command {
        let mut command = Command::new(self.program);
        let (wide, tall) = view.size;
        command
            .args(["--headless=new", "--disable-gpu", "--hide-scrollbars", "--no-first-run"])
            // Root can't have a sandbox; the page is our own.
            .arg("--no-sandbox")
            .arg("--disable-dev-shm-usage")
            // Nothing of it may need the network.
            .args(["--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"])
            .arg(format!("--user-data-dir={}", self.dir.join("profile").display()))
            .arg(format!("--window-size={wide},{tall}"))
            .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!view.dark)));
        command
    }
}

fn url(file: &Path) -> Result<String> {
    let file = file.canonicalize()?;
    Ok(format!("file://{}", file.to_str().context("a path that is no text")?))
}

fn last(text: &str) -> String {
    text.lines().rev().take(3).collect::<Vec<_>>().join(" / ")
}

/// How many colours a picture has, and how bright it is.
fn counted(file: &Path) -> Result<(usize, f64)> {
    let reader = std::io::BufReader::new(std::fs::File::open(file)?);
    let mut reader = png::Decoder::new(reader).read_info().context("the screenshot")?;
    let size = reader.output_buffer_size().context("a picture too large")?;
    let mut bytes = vec![0; size];
    let info = reader.next_frame(&mut bytes)?;
    let samples = info.color_type.samples();
    if info.bit_depth != png::BitDepth::Eight || samples < 3 {
        bail!("a screenshot of an unknown kind: {info:?}");
    }
    let pixels = bytes[..info.buffer_size()].chunks_exact(samples);
    let (mut colours, mut sum, mut count) = (BTreeSet::new(), 0_u64, 0_u64);
    for pixel in pixels {
        let [r, g, b] = [pixel[0], pixel[1], pixel[2]];
        if colours.len() < COLOURS {
            colours.insert([r, g, b]);
        }
        sum += (u64::from(r) + u64::from(g) + u64::from(b)) / 3;
        count += 1;
    }
    Ok((colours.len(), sum as f64 / count.max(1) as f64))
}
