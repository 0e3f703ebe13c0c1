//! A heuristic backtrace: return addresses on the guest's stack, for the log.
//!
//! Kernels are built without frame pointers, so there is no chain to follow. A word of the stack
//! counts if the instruction before the address is a direct call of a function that begins not far
//! before the address found last: leftovers of earlier calls seldom do. `cargo xtask
//! report` has the guest's symbols, and drops addresses that they contradict. It takes some microseconds,
//! for reports only.

use crate::memory::guest;
use arrayvec::ArrayVec;
use pinfold_abi::record::Addresses;
use pinfold_abi::vcpu::CpuUserRegs;

/// Words of the stack that are searched.
const WORDS: u64 = 256;
/// Addresses logged at most.
const MOST: usize = 8;
/// Bytes of a function at most.
const FUNCTION: u64 = 64 << 10;
/// Bytes of a kernel's code at most: an address farther away is none of its code.
const REACH: u64 = 32 << 20;
/// Bytes of a direct call: opcode and displacement.
const CALL: (u8, u64) = (0xe8, 5);

/// Return addresses, innermost first.
#[derive(Clone, Debug, Default)]
pub struct Callers(ArrayVec<u64, MOST>);

impl Callers {
    /// The return addresses of the loaded vCPU, if it is in kernel mode.
    pub fn of(regs: &CpuUserRegs) -> Callers {
        let mut found = ArrayVec::new();
        let mut inner = regs.rip;
        for word in 0..WORDS {
            let Some(value) = regs.rsp.checked_add(word * 8).and_then(read) else { break };
            if value.abs_diff(regs.rip) >= REACH {
                continue;
            }
            if calls_before(value, inner) {
                inner = value;
                found.push(value);
                if found.is_full() {
                    break;
                }
            }
        }
        Callers(found)
    }

    /// For the log; `None` if none were found.
    pub fn addresses(&self) -> Option<Addresses<'_>> {
        (!self.0.is_empty()).then_some(Addresses::Items(&self.0))
    }
}

/// Whether a direct call ends at `address`, to a function that may contain `inner`.
fn calls_before(address: u64, inner: u64) -> bool {
    let (opcode, length) = CALL;
    let mut bytes = [0; 5];
    let begin = address.wrapping_sub(length);
    if guest::read_bytes(&mut bytes, begin).is_err() || bytes[0] != opcode {
        return false;
    }
    let distance = i32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
    let function = address.wrapping_add_signed(distance.into());
    inner.checked_sub(function).is_some_and(|into| into < FUNCTION)
}

/// Reads a word of the guest's memory.
fn read(address: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    guest::read_bytes(&mut bytes, address).ok().map(|()| u64::from_le_bytes(bytes))
}
