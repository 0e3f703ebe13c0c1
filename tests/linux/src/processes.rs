//! Processes: fork storms, copy on write, exec, pipes.

use crate::os::{self, Access, Mapping, PAGE};
use crate::{Outcome, must};
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

pub(crate) fn run(rounds: u64) -> Outcome {
    let mut forks = storm(rounds * 2)?;
    forks += depth(rounds * 3)?;
    forks += busy_parent(rounds * 4)?;
    let programs = programs(rounds * 5)?;
    let piped = pipes(rounds)?;
    Ok(format!("forks={forks} programs={programs} piped={piped}"))
}

/// Many children at once, each writing all over what it got from its parent.
fn storm(rounds: u64) -> Result<u64, String> {
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
            must!(code == expected, "child {expected} found its memory wrong ({code})");
        }
        must!(
            (0..PAGES).all(|page| memory.read(page) == round),
            "what a child wrote shows in its parent"
        );
    }
    Ok(rounds * CHILDREN)
}

/// A child of a child of a child: page tables shared and parted at every step.
fn depth(most: u64) -> Result<u64, String> {
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
    must!(descend(&memory, 0, most) == 0, "in a chain of {most} processes one found wrong memory");
    Ok(most)
}

/// Forks of a process whose other threads go on writing.
fn busy_parent(forks: u64) -> Result<u64, String> {
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
                        // Each fork makes these pages read-only for a moment: no write may be lost.
                        must!(
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
            must!(code == 7, "a child that only ends did so with {code}");
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

/// This program again, as another process.
fn programs(count: u64) -> Result<u64, String> {
    for n in 0..count {
        let length = (n % 50) as usize;
        let status = Command::new("/proc/self/exe")
            .args(["leaf", &"x".repeat(length)])
            .status()
            .map_err(|error| format!("exec: {error}"))?;
        must!(status.code() == Some(length as i32), "a program ended with {status}, not {length}");
    }
    Ok(count)
}

/// Bytes through another process and back.
fn pipes(rounds: u64) -> Result<u64, String> {
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
        must!(status.success(), "cat ended with {status}");
        must!(back == bytes, "what came through two pipes is not what went in");
    }
    Ok(rounds * bytes.len() as u64)
}
