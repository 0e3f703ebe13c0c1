//! Processes: fork storms, copy on write, exec, pipes.

use crate::os::{self, Access, Mapping, PAGE};
use crate::{Outcome, ensure};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

pub(crate) fn run(rounds: u64) -> Outcome {
    let mut forks = fork_many(rounds * 2)?;
    forks += fork_chain(rounds * 3)?;
    forks += fork_while_writing(rounds * 4)?;
    let programs = run_programs(rounds * 5)?;
    let piped = copy_through_pipes(rounds)?;
    Ok(format!("forks={forks} programs={programs} piped={piped}"))
}

/// Forks many children at once, each of which overwrites the pages that it shares with its parent.
fn fork_many(rounds: u64) -> Result<u64, String> {
    const CHILDREN: u64 = 16;
    const PAGES: usize = 64;
    let memory = Mapping::new(PAGES, Access::ReadWrite)?;
    for round in 0..rounds {
        (0..PAGES).for_each(|page| memory.write(page, round));
        let mut children = Vec::new();
        for child in 1..=CHILDREN {
            children.push(os::fork(|| {
                let good = (0..PAGES).all(|page| {
                    let before = memory.read(page);
                    memory.write(page, round + child);
                    before == round
                });
                let kept = (0..PAGES).all(|page| memory.read(page) == round + child);
                if good && kept { child as u8 } else { 0xff }
            })?);
        }
        for (child, expected) in children.into_iter().zip(1u8..) {
            let code = os::wait(child)?;
            ensure!(code == expected, "child {expected} found its memory wrong ({code})");
        }
        ensure!(
            (0..PAGES).all(|page| memory.read(page) == round),
            "the parent sees what a child wrote"
        );
    }
    Ok(rounds * CHILDREN)
}

/// Forks a chain of processes, each the child of the one before, so that copy on write happens at
/// every depth.
fn fork_chain(most: u64) -> Result<u64, String> {
    let memory = Mapping::new(1, Access::ReadWrite)?;
    fn descend(memory: &Mapping, at: u64, most: u64) -> u8 {
        if memory.read(0) != at {
            return 1;
        }
        if at == most {
            return 0;
        }
        memory.write(0, at + 1);
        let below = os::fork(|| descend(memory, at + 1, most)).and_then(os::wait);
        if below == Ok(0) && memory.read(0) == at + 1 { 0 } else { 1 }
    }
    let most = most.min(200);
    ensure!(
        descend(&memory, 0, most) == 0,
        "one of a chain of {most} processes found wrong memory"
    );
    Ok(most)
}

/// Forks while other threads of the process go on writing.
fn fork_while_writing(forks: u64) -> Result<u64, String> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (1..=os::processors() as u64)
            .map(|mark| {
                let stop = &stop;
                scope.spawn(move || -> Result<(), String> {
                    let memory = Mapping::new(32, Access::ReadWrite)?;
                    let mut turn = mark;
                    while !stop.load(Ordering::Relaxed) {
                        (0..32).for_each(|page| memory.write(page, turn));
                        // Each fork makes these pages read-only until they are written again: no
                        // write may be lost.
                        ensure!(
                            (0..32).all(|page| memory.read(page) == turn),
                            "a write was lost while another thread forked"
                        );
                        turn += 1;
                    }
                    Ok(())
                })
            })
            .collect();
        let forked = (0..forks).try_for_each(|_| {
            let code = os::fork(|| 7).and_then(os::wait)?;
            ensure!(code == 7, "a child that exits with 7 exited with {code}");
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.join().map_err(|_| "a thread panicked".to_owned())??;
        }
        forked
    })?;
    Ok(forks)
}

/// Runs this program again as a new process, many times.
fn run_programs(count: u64) -> Result<u64, String> {
    for n in 0..count {
        let length = (n % 50) as usize;
        let status = Command::new("/proc/self/exe")
            .args(["exit-with-length", &"x".repeat(length)])
            .status()
            .map_err(|error| format!("exec: {error}"))?;
        ensure!(
            status.code() == Some(length as i32),
            "a program ended with {status}, not {length}"
        );
    }
    Ok(count)
}

/// Sends bytes through another process and back.
fn copy_through_pipes(rounds: u64) -> Result<u64, String> {
    let bytes: Vec<u8> = (0..64 * PAGE).map(|n| (n ^ (n >> 8)) as u8).collect();
    for _ in 0..rounds {
        let mut cat = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cat: {error}"))?;
        let (input, output) = (cat.stdin.take(), cat.stdout.take());
        let (mut input, mut output) = input.zip(output).ok_or("cat has no pipes")?;
        let mut back = Vec::new();
        thread::scope(|scope| {
            scope.spawn(|| {
                // An error here shows as bytes that do not come back.
                let _ = input.write_all(&bytes);
                drop(input);
            });
            output.read_to_end(&mut back).map_err(|error| format!("pipe: {error}"))
        })?;
        let status = cat.wait().map_err(|error| format!("wait: {error}"))?;
        ensure!(status.success(), "cat ended with {status}");
        ensure!(back == bytes, "the bytes changed on their way through two pipes");
    }
    Ok(rounds * bytes.len() as u64)
}
