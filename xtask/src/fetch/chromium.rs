//! Finding Chromium, which the report's page is looked at in.

use super::debian;
use anyhow::{Result, bail};

/// The program's names.
const PROGRAMS: &[&str] =
    &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// Debian's packages: the browser, and a font, without which pages have no text.
const PACKAGES: &[&str] = &["chromium", "fonts-dejavu-core"];

/// The program that is there.
pub(crate) fn find() -> Option<&'static str> {
    PROGRAMS.iter().copied().find(|program| debian::which(program))
}

/// How a person gets it.
pub(crate) const ADVICE: &str =
    "apt-get install --no-install-recommends chromium fonts-dejavu-core";

/// The program; installs it when root.
pub(crate) fn ensure() -> Result<&'static str> {
    if let Some(program) = find() {
        return Ok(program);
    }
    if debian::present() && debian::is_root() {
        for package in PACKAGES {
            debian::install(package)?;
        }
    }
    match find() {
        Some(program) => Ok(program),
        None => bail!("Chromium is missing: {ADVICE}"),
    }
}
