//! A guest's plain store to a page-table entry, decoded so that it can be validated.
//!
//! The guest kernel maps its page tables read-only, so a store to one faults. With the
//! `writable_pagetables` assist the hypervisor emulates it:
//!
//! 1. [`PteStore::decode`] the instruction. [`PteStore::address`] must be the address that faulted;
//!    otherwise another vCPU has changed the instruction since.
//! 2. Read the entry at [`PteStore::entry_address`], and [`PteStore::evaluate`] the new value.
//! 3. Validate it and compare-exchange the entry. If the entry has changed meanwhile (the CPU sets
//!    accessed and dirty bits), evaluate again with the new contents.
//! 4. [`RegisterEffects::apply`] to registers, flags and rip. The instruction has completed.
//!
//! Nothing is changed before step 4, so the caller can retry as often as it likes, and an error at
//! any point leaves the guest as it was at the fault.
//!
//! Supported are instructions with one aligned memory operand of 1, 2, 4 or 8 bytes, which is thus
//! within one entry: mov, movnti, xchg, cmpxchg, xadd, add, or, adc, sbb, and, sub, xor, inc, dec,
//! not, neg, bts, btr, btc, stos; with or without lock. Anything else is
//! [`StoreError::Unsupported`].
//!
//! | file      | about                                                  |
//! |-----------|--------------------------------------------------------|
//! | `decoded` | [`PteStore`]: operation and operands                   |
//! | `fast`    | the decoder of the most frequent encodings             |
//! | `general` | the decoder of all supported instructions              |
//! | `execute` | the new entry, and the effects on registers and flags  |

mod decoded;
mod execute;
mod fast;
mod general;

use crate::decode::SegmentBases;
pub use decoded::{PteStore, StoreError};
pub use execute::{RegisterEffects, StoreResult};
use pinfold_abi::vcpu::CpuUserRegs;

impl PteStore {
    /// Decodes the instruction at `regs.rip` from its bytes. At most 15 are looked at; there may be
    /// fewer if the next page can't be read.
    ///
    /// # Errors
    /// [`StoreError`]: the instruction can't be emulated.
    pub fn decode(
        bytes: &[u8],
        regs: &CpuUserRegs,
        bases: SegmentBases,
    ) -> Result<PteStore, StoreError> {
        match fast::decode(bytes, regs) {
            Some(store) => store.check_alignment(),
            None => PteStore::decode_general(bytes, regs, bases),
        }
    }

    /// As [`PteStore::decode`], without the fast decoder. For tests and measurements.
    ///
    /// # Errors
    /// As [`PteStore::decode`].
    pub fn decode_general(
        bytes: &[u8],
        regs: &CpuUserRegs,
        bases: SegmentBases,
    ) -> Result<PteStore, StoreError> {
        general::decode(bytes, regs, bases)?.check_alignment()
    }
}
