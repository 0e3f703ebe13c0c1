//! Threads: locks and wake-ups between processors, migration, floating point while preempted.

use crate::os;
use crate::random::Random;
use crate::{Outcome, ensure};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

pub(crate) fn run(rounds: u64) -> Outcome {
    let processors = os::processors();
    let count = (2 * processors).max(4);
    count_together(count, rounds * 2_000)?;
    start_and_join(rounds * 30)?;
    let passes = ping_pong(processors, rounds * 200)?;
    compute_together(count, rounds)?;
    let moves = migrate(processors, rounds * 20)?;
    Ok(format!("processors={processors} threads={count} passes={passes} moves={moves}"))
}

fn join_all<T>(threads: Vec<thread::JoinHandle<T>>) -> Result<Vec<T>, String> {
    threads.into_iter().map(|t| t.join().map_err(|_| "a thread panicked".into())).collect()
}

/// Many threads increment one counter under a lock, and another atomically.
fn count_together(count: usize, each: u64) -> Result<(), String> {
    let locked = Arc::new(Mutex::new(0u64));
    let atomic = Arc::new(AtomicU64::new(0));
    let adders = (0..count)
        .map(|_| {
            let (locked, atomic) = (locked.clone(), atomic.clone());
            thread::spawn(move || {
                for _ in 0..each {
                    *locked.lock().expect("no thread panics") += 1;
                    atomic.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    join_all(adders)?;
    let (expected, locked) = (count as u64 * each, *locked.lock().expect("no thread panics"));
    let atomic = atomic.load(Ordering::Relaxed);
    ensure!(locked == expected, "{locked} additions under a lock, not {expected}");
    ensure!(atomic == expected, "{atomic} atomic additions, not {expected}");
    Ok(())
}

/// Starts threads that do next to nothing, and joins them.
fn start_and_join(count: u64) -> Result<(), String> {
    let sum = Arc::new(AtomicU64::new(0));
    for batch in 0..count / 10 {
        let batch = (0..10)
            .map(|n| {
                let sum = sum.clone();
                thread::spawn(move || sum.fetch_add(batch * 10 + n, Ordering::Relaxed))
            })
            .collect();
        join_all(batch)?;
    }
    let made = count / 10 * 10;
    let (sum, expected) = (sum.load(Ordering::Relaxed), made * made.saturating_sub(1) / 2);
    ensure!(sum == expected, "the threads' numbers add up to {sum}, not {expected}");
    Ok(())
}

/// Two threads wait for each other in turn, on different processors where there are two. Returns
/// the number of turns.
fn ping_pong(processors: usize, passes: u64) -> Result<u64, String> {
    let shared = Arc::new((Mutex::new(0u64), Condvar::new()));
    let players = (0..2)
        .map(|me| {
            let shared = shared.clone();
            thread::spawn(move || {
                let moved_here = os::move_to(me as usize % processors);
                let (ball, passed) = &*shared;
                let mut ball = ball.lock().expect("no thread panics");
                while *ball < passes {
                    if *ball % 2 == me {
                        *ball += 1;
                        passed.notify_one();
                    } else {
                        ball = passed.wait(ball).expect("no thread panics");
                    }
                }
                passed.notify_one();
                moved_here
            })
        })
        .collect();
    let moved = join_all(players)?;
    ensure!(moved.iter().all(|moved| *moved), "a thread could not move to its processor");
    let passed = *shared.0.lock().expect("no thread panics");
    ensure!(passed == passes, "{passed} passes, not {passes}");
    Ok(passed)
}

/// Computes a sum whose every bit depends on each step, so that one wrong register shows.
fn chaotic_sum(seed: u64, steps: u64) -> u64 {
    let mut x = [0.1 + 0.01 * seed as f64, 0.37, 0.59, 0.83];
    for step in 0..steps {
        for n in 0..4 {
            x[n] = 3.97 * x[n] * (1.0 - x[n]) * (0.999 + 0.001 * x[(n + 1) % 4]);
        }
        if step % 4_096 == 0 {
            thread::yield_now();
        }
    }
    x.iter().fold(0, |sum, x| sum ^ x.to_bits().rotate_left(7))
}

/// More threads than processors compute with floating point; each must get the result that it gets
/// alone.
fn compute_together(count: usize, rounds: u64) -> Result<(), String> {
    let steps = rounds * 5_000;
    let seeds = 0..count as u64;
    let alone: Vec<u64> = seeds.clone().map(|seed| chaotic_sum(seed, steps)).collect();
    let threads = seeds.map(|seed| thread::spawn(move || chaotic_sum(seed, steps))).collect();
    ensure!(join_all(threads)? == alone, "a sum came out differently among other threads");
    Ok(())
}

/// Moves a thread from processor to processor, and checks its memory on each.
fn migrate(processors: usize, moves: u64) -> Result<u64, String> {
    let thread = thread::spawn(move || {
        let mut random = Random::new(3);
        let mut words = vec![0u64; 4_096];
        for step in 0..moves {
            let to = random.below(processors);
            ensure!(os::move_to(to), "not on processor {to} after moving there");
            ensure!(
                words.iter().all(|word| *word == step),
                "memory written on one processor reads differently on processor {to}"
            );
            words.fill(step + 1);
        }
        os::run_anywhere(processors);
        Ok(moves)
    });
    thread.join().map_err(|_| "a thread panicked".to_owned())?
}
