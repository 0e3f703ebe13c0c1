//! Running QEMU: its serial line is read as it comes, its time is limited.

use super::clean::Lines;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How QEMU ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By itself, with this status (`None`: by a signal), and this on standard error.
    Exited(Option<i32>, String),
    /// It was ended because the watcher had seen enough.
    Enough,
    /// It was ended at the time limit.
    TimedOut,
}

/// What the watcher of a line wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Go on.
    On,
    /// This line was the last one of interest: end QEMU.
    Enough,
}

/// Ends QEMU however this function is left.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts QEMU, writes its serial line to `log`, shows each line to `watch`, and waits for it.
/// `limit` of `None` waits for ever.
pub(crate) fn run(
    mut qemu: Command,
    log: &Path,
    limit: Option<Duration>,
    mut watch: impl FnMut(&str) -> Watch,
) -> Result<Ended> {
    let started = Instant::now();
    let mut log = BufWriter::new(
        File::create(log).with_context(|| format!("cannot write {}", log.display()))?,
    );
    qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Guard(qemu.spawn().context("cannot start QEMU")?);
    let mut serial = child.0.stdout.take().context("QEMU has no output")?;
    let mut errors = child.0.stderr.take().context("QEMU has no error output")?;

    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.read_to_string(&mut text);
        text
    });
    let (sender, receiver) = mpsc::channel::<Vec<u8>>();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count) = serial.read(&mut buffer) {
            if count == 0 || sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });

    let mut lines = Lines::default();
    let mut enough = false;
    loop {
        let left = match limit {
            Some(limit) => limit.saturating_sub(started.elapsed()),
            None => Duration::from_secs(3600),
        };
        match receiver.recv_timeout(left) {
            Ok(bytes) => {
                lines.push(&bytes, |line| {
                    let _ = writeln!(log, "{line}");
                    enough |= watch(&line) == Watch::Enough;
                });
                // Someone may be following the file.
                log.flush().context("cannot write the log")?;
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if enough {
            return Ok(Ended::Enough);
        }
        if limit.is_some_and(|limit| started.elapsed() >= limit) {
            if let Some(line) = lines.finish() {
                writeln!(log, "{line}")?;
                watch(&line);
            }
            return Ok(Ended::TimedOut);
        }
    }
    if let Some(line) = lines.finish() {
        writeln!(log, "{line}")?;
        watch(&line);
    }
    log.flush()?;
    let status = child.0.wait().context("cannot wait for QEMU")?;
    Ok(Ended::Exited(status.code(), errors.join().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, limit: u64, stop: &str) -> (Ended, Vec<String>, String) {
        let log = std::env::temp_dir().join(format!(
            "pinfold-process-{}-{:?}.log",
            std::process::id(),
            std::thread::current().id()
        ));
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let mut seen = Vec::new();
        let ended = run(command, &log, Some(Duration::from_millis(limit)), |line| {
            seen.push(line.to_owned());
            if line == stop { Watch::Enough } else { Watch::On }
        })
        .unwrap();
        let text = std::fs::read_to_string(&log).unwrap();
        std::fs::remove_file(&log).unwrap();
        (ended, seen, text)
    }

    #[test]
    fn the_end_is_told_exactly() {
        let (ended, seen, text) = shell("printf 'a\\r\\nb'; echo no >&2; exit 33", 10_000, "-");
        assert_eq!(ended, Ended::Exited(Some(33), "no\n".into()));
        assert_eq!(seen, ["a", "b"]);
        assert_eq!(text, "a\nb\n");
    }

    #[test]
    fn time_is_limited() {
        let (ended, seen, _) = shell("printf half; exec sleep 30", 300, "-");
        assert_eq!(ended, Ended::TimedOut);
        assert_eq!(seen, ["half"]);
    }

    #[test]
    fn the_watcher_can_end_it() {
        let (ended, seen, _) = shell("echo one; echo two; exec sleep 30", 20_000, "two");
        assert_eq!(ended, Ended::Enough);
        assert_eq!(seen, ["one", "two"]);
    }
}
