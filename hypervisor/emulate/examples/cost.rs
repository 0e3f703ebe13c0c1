//! Measures the cost of decoding and evaluating a store to a page table, in instructions:
//! run `valgrind --tool=callgrind target/release/examples/cost FORM ROUNDS` for two numbers of rounds
//! and divide the difference of the instruction counts by the difference of the rounds.
//!
//! FORM is `fast` or `general`, followed by `-mov`, `-xchg`, `-cmpxchg`, `-and`, `-imm` or `-none`
//! (the cost of the loop).

use pinfold_abi::layout::PAGE_SIZE;
use pinfold_abi::vcpu::CpuUserRegs;
use pinfold_emulate::pte_store::PteStore;
use pinfold_emulate::{SegmentBases, warm_up};
use std::hint::black_box;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let form = arguments.next().unwrap_or_default();
    let rounds: u64 = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let (decoder, instruction) = form.split_once('-').unwrap_or(("", ""));
    let bytes: &[u8] = match instruction {
        "mov" => &[0x48, 0x89, 0x37],
        "xchg" => &[0x48, 0x87, 0x74, 0xd7, 0x10],
        "cmpxchg" => &[0xf0, 0x48, 0x0f, 0xb1, 0x37],
        "and" => &[0xf0, 0x80, 0x27, 0xfd],
        "imm" => &[0x48, 0xc7, 0x07, 0, 0, 0, 0],
        "none" => &[],
        _ => panic!("unknown form {form}"),
    };
    // Fifteen bytes, as a caller fetches them.
    let mut fetched = [0x90; 15];
    fetched[..bytes.len()].copy_from_slice(bytes);
    warm_up();
    let mut regs = CpuUserRegs { rdi: 0x8000, rsi: 0x1234_5067, ..Default::default() };
    let bases = SegmentBases::default();
    for round in 0..rounds {
        if bytes.is_empty() {
            black_box(&fetched);
            continue;
        }
        let decoded = match decoder {
            "general" => PteStore::decode_general(black_box(&fetched), &regs, bases),
            _ => PteStore::decode(black_box(&fetched), &regs, bases),
        };
        let store = decoded.unwrap();
        let entry = (round * PAGE_SIZE) | 0x67;
        let result = black_box(&store).evaluate(black_box(entry), &regs);
        result.effects.apply(&mut regs);
        black_box(result.entry);
        regs.rip = 0;
    }
}
