//! grant_table_op: grant tables ([`crate::grant`]), version 1 only.

mod copy;
mod elements;
mod mapping;
mod table;
mod transfer;

use super::outcome::Outcome;
use crate::domain::vcpu::Args;
use crate::domain::vcpu::Vcpu;
use elements::each;
use pinfold_abi::errno::Errno;
use pinfold_abi::grant::*;

/// `grant_table_op(command, list, count)`.
pub fn run(vcpu: &mut Vcpu, args: &Args) -> Outcome {
    // An unsigned int of the ABI, and not a negative one.
    let count = args[2] & 0xffff_ffff;
    if count > i32::MAX as u64 {
        return Outcome::Done(Errno::EINVAL.as_result());
    }
    let argument = args[1];
    match args[0] {
        MAP_GRANT_REF => each::<MapGrantRef>(vcpu, args, count, mapping::map),
        UNMAP_GRANT_REF => mapping::unmap_all::<UnmapGrantRef>(vcpu, args, count),
        UNMAP_AND_REPLACE => mapping::unmap_all::<UnmapAndReplace>(vcpu, args, count),
        COPY => each::<Copy>(vcpu, args, count, copy::copy),
        TRANSFER => each::<Transfer>(vcpu, args, count, transfer::transfer),
        SWAP_GRANT_REF => each::<SwapGrantRef>(vcpu, args, count, table::swap),
        QUERY_SIZE | SETUP_TABLE | GET_STATUS_FRAMES if count != 1 => {
            Outcome::Done(Errno::EINVAL.as_result())
        }
        QUERY_SIZE => table::query_size(vcpu, argument).into(),
        SETUP_TABLE => table::setup(vcpu, argument).into(),
        GET_STATUS_FRAMES => table::status_frames(argument).into(),
        SET_VERSION => table::set_version(argument).into(),
        GET_VERSION => table::version(vcpu, argument).into(),
        // For architectures with devices that don't snoop caches.
        CACHE_FLUSH => Outcome::Done(Errno::EOPNOTSUPP.as_result()),
        _ => Outcome::Done(Errno::ENOSYS.as_result()),
    }
}
