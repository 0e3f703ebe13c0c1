//! Progress on standard error: a spinner on a terminal, plain lines elsewhere or with `CI` set.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// True where a spinner can be shown.
fn is_interactive() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("CI").is_none()
}

/// Prints one line about what is being done. Standard output belongs to the serial log.
pub(crate) fn note(text: impl AsRef<str>) {
    eprintln!("xtask: {}", text.as_ref());
}

/// A step that takes a while. Its spinner goes away when it is dropped.
pub(crate) struct Step {
    bar: Option<ProgressBar>,
}

impl Step {
    /// Prints what begins now.
    pub(crate) fn start(text: impl Into<String>) -> Step {
        let text = text.into();
        if !is_interactive() {
            note(&text);
            return Step { bar: None };
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message(text);
        bar.enable_steady_tick(Duration::from_millis(120));
        Step { bar: Some(bar) }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
