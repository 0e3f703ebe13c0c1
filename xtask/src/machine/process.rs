//! Running QEMU: its serial line is read as it comes, its time is limited.

use super::bare::Bare;
use super::clean::Lines;
use super::keyboard::{self, Terminal};
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
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
    /// It was ended from the keyboard.
    Quit,
}

/// Where the serial line's input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    /// There is none.
    Nothing,
    /// What this tool gets on its standard input.
    Stdin,
    /// What the watcher of the lines types.
    Watcher,
}

/// What the watcher of a line wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// Go on.
    On,
    /// Go on, and from here copy every byte to standard output as it comes: somebody is typing,
    /// and a prompt does not end its line.
    Live,
    /// Go on, and type this ([`Input::Watcher`]).
    Type(&'static str),
    /// The same, but the heads of the guest's lines are left out.
    LiveBare,
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

/// What the threads around QEMU report.
enum Event {
    /// Bytes from the serial line.
    Serial(Vec<u8>),
    /// The serial line is closed: QEMU is ending.
    Closed,
    /// The person at the keyboard wants the end.
    Quit,
}

/// What of the bytes goes to the screen.
enum Live {
    /// None: the watcher shows lines.
    No,
    /// All of them.
    All,
    /// What a guest said.
    Bare(Bare),
}

/// The serial line's way from QEMU to the log, the watcher and, once it is live, the screen.
struct Output<'a, W> {
    log: BufWriter<File>,
    lines: Lines,
    /// Where the watcher types.
    keys: Option<ChildStdin>,
    live: Live,
    enough: bool,
    watch: &'a mut W,
}

impl<W: FnMut(&str) -> Watch> Output<'_, W> {
    fn bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        for byte in bytes {
            match &mut self.live {
                Live::No => {}
                Live::All => out.write_all(&[*byte])?,
                Live::Bare(bare) => out.write_all(&bare.take(*byte))?,
            }
            let Output { log, lines, keys, live, enough, watch } = self;
            lines.push(&[*byte], |line| {
                let _ = writeln!(log, "{line}");
                match watch(&line) {
                    Watch::On => {}
                    // QEMU that has ended takes no keys, which is told by its end.
                    Watch::Type(text) => {
                        let _ = keys.as_mut().map(|keys| keys.write_all(text.as_bytes()));
                    }
                    Watch::Live => *live = Live::All,
                    Watch::LiveBare => *live = Live::Bare(Bare::default()),
                    Watch::Enough => *enough = true,
                }
            });
        }
        out.flush()?;
        // Someone may be following the file.
        self.log.flush()
    }

    /// A last line that was not ended.
    fn finish(&mut self) -> std::io::Result<()> {
        if let Some(line) = self.lines.finish() {
            writeln!(self.log, "{line}")?;
            (self.watch)(&line);
        }
        if !matches!(self.live, Live::No) {
            println!();
        }
        self.log.flush()
    }
}

/// Starts QEMU, writes its serial line to `log`, shows each line to `watch`, and waits for it.
/// `limit` of `None` waits for ever. The serial line takes `serial_rate` bytes a second, if given:
/// the rest waits in the port, as it does on a real line.
pub(crate) fn run(
    mut qemu: Command,
    log: &Path,
    limit: Option<Duration>,
    input: Input,
    serial_rate: Option<NonZeroU32>,
    mut watch: impl FnMut(&str) -> Watch,
) -> Result<Ended> {
    let started = Instant::now();
    let log = BufWriter::new(
        File::create(log).with_context(|| format!("cannot write {}", log.display()))?,
    );
    let lines = Lines::default();
    // QEMU (7.2) takes the end of its input for the end of the line. Then a serial port loses what it
    // can't write at once, and a virtio console everything: the input stays open.
    qemu.stdin(Stdio::piped());
    qemu.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Guard(qemu.spawn().context("cannot start QEMU")?);
    let mut serial = child.0.stdout.take().context("QEMU has no output")?;
    let mut errors = child.0.stderr.take().context("QEMU has no error output")?;
    let keys = if input == Input::Stdin { None } else { child.0.stdin.take() };
    let mut output = Output { log, lines, keys, live: Live::No, enough: false, watch: &mut watch };

    let errors = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = errors.read_to_string(&mut text);
        text
    });
    let (sender, receiver) = mpsc::channel::<Event>();
    let _terminal = child.0.stdin.take().and_then(|mut line| {
        let terminal = Terminal::take();
        let (sender, is_terminal) = (sender.clone(), terminal.is_some());
        // It sits in a read that nothing ends but the end of this process.
        std::thread::spawn(move || {
            if keyboard::forward(&mut line, is_terminal) {
                let _ = sender.send(Event::Quit);
            }
            // Open until QEMU ends: this thread lives no longer than the process.
            std::mem::forget(line);
        });
        terminal
    });
    if serial_rate.is_some() {
        // What the pipe holds has left the port: the least that a pipe can be.
        rustix::pipe::fcntl_setpipe_size(&serial, 4096).context("cannot make the pipe small")?;
    }
    std::thread::spawn(move || {
        read_serial(&mut serial, serial_rate, &mut |bytes| {
            sender.send(Event::Serial(bytes.to_vec())).is_ok()
        });
        let _ = sender.send(Event::Closed);
    });

    loop {
        let left = match limit {
            Some(limit) => limit.saturating_sub(started.elapsed()),
            None => Duration::from_secs(3600),
        };
        match receiver.recv_timeout(left) {
            Ok(Event::Serial(bytes)) => output.bytes(&bytes).context("cannot write the log")?,
            Ok(Event::Closed) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(Event::Quit) => {
                output.finish()?;
                return Ok(Ended::Quit);
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if output.enough {
            return Ok(Ended::Enough);
        }
        if limit.is_some_and(|limit| started.elapsed() >= limit) {
            output.finish()?;
            return Ok(Ended::TimedOut);
        }
    }
    output.finish()?;
    let status = child.0.wait().context("cannot wait for QEMU")?;
    Ok(Ended::Exited(status.code(), errors.join().unwrap_or_default()))
}

/// Reads the serial line to its end, or until `each` wants no more, at most so many bytes a second.
fn read_serial(
    serial: &mut impl Read,
    rate: Option<NonZeroU32>,
    each: &mut impl FnMut(&[u8]) -> bool,
) {
    /// Pieces a second: short pauses, so that the line looks steady.
    const PIECES: u32 = 100;
    let mut buffer = [0; 4096];
    let most = rate.map_or(buffer.len(), |rate| {
        usize::try_from(rate.get().div_ceil(PIECES)).unwrap_or(usize::MAX).min(buffer.len())
    });
    while let Ok(count) = serial.read(&mut buffer[..most]) {
        if count == 0 || !each(&buffer[..count]) {
            break;
        }
        if let Some(rate) = rate {
            std::thread::sleep(Duration::from_secs_f64(count as f64 / f64::from(rate.get())));
        }
    }
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
        let ended =
            run(command, &log, Some(Duration::from_millis(limit)), Input::Watcher, None, |line| {
                seen.push(line.to_owned());
                match line {
                    "type" => Watch::Type("typed\n"),
                    line if line == stop => Watch::Enough,
                    _ => Watch::On,
                }
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
    fn a_slow_line_keeps_its_rate() {
        let text = [b'x'; 1000];
        let started = Instant::now();
        let mut seen = 0;
        read_serial(&mut &text[..], NonZeroU32::new(2000), &mut |bytes| {
            assert!(bytes.len() <= 20);
            seen += bytes.len();
            true
        });
        assert_eq!(seen, text.len());
        assert!(started.elapsed() >= Duration::from_millis(500));
    }

    #[test]
    fn time_is_limited() {
        let (ended, seen, _) = shell("printf half; exec sleep 30", 300, "-");
        assert_eq!(ended, Ended::TimedOut);
        assert_eq!(seen, ["half"]);
    }

    #[test]
    fn the_watcher_can_type() {
        let (ended, seen, _) = shell("echo type; read line; echo got $line", 20_000, "-");
        assert_eq!(ended, Ended::Exited(Some(0), String::new()));
        assert_eq!(seen, ["type", "got typed"]);
    }

    #[test]
    fn the_watcher_can_end_it() {
        let (ended, seen, _) = shell("echo one; echo two; exec sleep 30", 20_000, "two");
        assert_eq!(ended, Ended::Enough);
        assert_eq!(seen, ["one", "two"]);
    }
}
