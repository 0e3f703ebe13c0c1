//! Threads: locks and wake-ups between processors, being moved, floating point while preempted.

use crate::os::{self, Random};
use crate::{Outcome, must};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

pub(crate) fn run(rounds: u64) -> Outcome {
    let processors = os::processors();
    let count = (2 * processors).max(4);
    shared(count, rounds * 2_000)?;
    short_lived(rounds * 30)?;
    let passes = ping_pong(processors, rounds * 200)?;
    floats(count, rounds)?;
    let moves = everywhere(processors, rounds * 20)?;
    Ok(format!("processors={processors} threads={count} passes={passes} moves={moves}"))
}

fn joined<T>(threads: Vec<thread::JoinHandle<T>>) -> Result<Vec<T>, String> {
    threads.into_iter().map(|t| t.join().map_err(|_| "a thread panicked".into())).collect()
}

/// Sums kept by many, under a lock and without one.
fn shared(count: usize, each: u64) -> Result<(), String> {
    let locked = Arc::new(Mutex::new(0u64));
    let free = Arc::new(AtomicU64::new(0));
    let adders = (0..count)
        .map(|_| {
            let (locked, free) = (locked.clone(), free.clone());
            thread::spawn(move || {
                for _ in 0..each {
                    *locked.lock().expect("no thread panics") += 1;
                    free.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    joined(adders)?;
    let (expected, locked) = (count as u64 * each, *locked.lock().expect("no thread panics"));
    let free = free.load(Ordering::Relaxed);
    must!(locked == expected, "{locked} additions under a lock, not {expected}");
    must!(free == expected, "{free} atomic additions, not {expected}");
    Ok(())
}

/// Threads that are made, do next to nothing, and are gone.
fn short_lived(count: u64) -> Result<(), String> {
    let sum = Arc::new(AtomicU64::new(0));
    for batch in 0..count / 10 {
        let batch = (0..10)
            .map(|n| {
                let sum = sum.clone();
                thread::spawn(move || sum.fetch_add(batch * 10 + n, Ordering::Relaxed))
            })
            .collect();
        joined(batch)?;
    }
    let made = count / 10 * 10;
    let (sum, expected) = (sum.load(Ordering::Relaxed), made * made.saturating_sub(1) / 2);
    must!(sum == expected, "the threads' numbers add up to {sum}, not {expected}");
    Ok(())
}

/// Two threads that wait for each other in turn, on different processors where there are some.
fn ping_pong(processors: usize, passes: u64) -> Result<u64, String> {
    let table = Arc::new((Mutex::new(0u64), Condvar::new()));
    let players = (0..2)
        .map(|me| {
            let table = table.clone();
            thread::spawn(move || {
                let there = os::go_to(me as usize % processors);
                let (ball, moved) = &*table;
                let mut ball = ball.lock().expect("no thread panics");
                while *ball < passes {
                    if *ball % 2 == me {
                        *ball += 1;
                        moved.notify_one();
                    } else {
                        ball = moved.wait(ball).expect("no thread panics");
                    }
                }
                moved.notify_one();
                there
            })
        })
        .collect();
    let there = joined(players)?;
    must!(there.iter().all(|there| *there), "a thread could not go to its processor");
    let passed = *table.0.lock().expect("no thread panics");
    must!(passed == passes, "{passed} passes, not {passes}");
    Ok(passed)
}

/// A sum whose every bit depends on each step: one wrong register shows.
fn chaos(seed: u64, steps: u64) -> u64 {
    let mut x = [0.1 + 0.01 * seed as f64, 0.37, 0.59, 0.83];
    for step in 0..steps {
        for n in 0..4 {
            x[n] = 3.97 * x[n] * (1.0 - x[n]) * (0.999 + 0.001 * x[(n + 1) % 4]);
        }
        if step % 4096 == 0 {
            thread::yield_now();
        }
    }
    x.iter().fold(0, |sum, x| sum ^ x.to_bits().rotate_left(7))
}

/// More threads than processors compute with floating point; each must get what one alone gets.
fn floats(count: usize, rounds: u64) -> Result<(), String> {
    let steps = rounds * 5_000;
    let alone: Vec<u64> = (0..count as u64).map(|seed| chaos(seed, steps)).collect();
    let crowd = (0..count as u64).map(|seed| thread::spawn(move || chaos(seed, steps))).collect();
    must!(joined(crowd)? == alone, "floating point went another way among other threads");
    Ok(())
}

/// A thread that goes from processor to processor and takes its memory with it.
fn everywhere(processors: usize, moves: u64) -> Result<u64, String> {
    let traveller = thread::spawn(move || {
        let mut random = Random::new(3);
        let mut luggage = vec![0u64; 4096];
        for step in 0..moves {
            let to = random.below(processors as u64) as usize;
            must!(os::go_to(to), "not on processor {to} after having gone there");
            must!(
                luggage.iter().all(|word| *word == step),
                "memory written on one processor reads differently on processor {to}"
            );
            luggage.fill(step + 1);
        }
        os::go_anywhere(processors);
        Ok(moves)
    });
    traveller.join().map_err(|_| "a thread panicked".to_owned())?
}
