//! Counts what decoding and executing a page-table store costs:
//! `valgrind --tool=callgrind target/release/examples/cost FORM ROUNDS`, for two values of ROUNDS; the
//! difference in instructions, divided by the difference in rounds, is the cost of one.
//! FORM: `fast` or `general`, followed by `-mov`, `-xchg`, `-cmpxchg`, `-and`, `-imm`.

use pinfold_abi::vcpu::CpuUserRegs;
use pinfold_emulate::store::PteStore;
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
    // What a caller has: fifteen bytes from rip on.
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
        let planned = black_box(&store).plan(black_box(round << 12 | 0x67), &regs);
        planned.effects.commit(&mut regs);
        black_box(planned.new);
        regs.rip = 0;
    }
}
