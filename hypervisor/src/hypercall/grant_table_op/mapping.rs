//! Mapping and unmapping: the elements of the calls.

use super::elements::{Preempted, each, status};
use crate::domain::vcpu::Args;
use crate::domain::vcpu::Vcpu;
use crate::grant::borrower;
use crate::hypercall::outcome::Outcome;
use pinfold_abi::grant::{MapFlags, MapGrantRef, Status, UnmapAndReplace, UnmapGrantRef};
use pinfold_core::grant::mapping::{MapError, MapRequest, UnmapBatch};
use pinfold_validator::{DomId, Mfn};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Maps one grant.
pub(super) fn map(vcpu: &mut Vcpu, asked: &mut MapGrantRef) -> Result<(), Preempted> {
    let flags = MapFlags::from_bits_retain(asked.flags);
    let mapped = if flags.contains(MapFlags::DEVICE_MAP) {
        // No devices, and nothing that would guard memory from them.
        Err(MapError::Status(Status::NoDeviceSpace))
    } else if !flags.contains(MapFlags::HOST_MAP) {
        Err(MapError::Status(Status::BadReference))
    } else {
        borrower(vcpu).map(&MapRequest {
            address: asked.host_addr,
            flags,
            granter: DomId::new(asked.dom),
            reference: asked.reference,
        })
    };
    if let Ok((handle, frame)) = mapped {
        asked.handle = handle;
        asked.dev_bus_addr = Mfn::get(frame) << 12;
    }
    asked.status = status(vcpu, mapped.map(|_| ()))?;
    Ok(())
}

/// An element that unmaps.
pub(super) trait Unmapping: FromBytes + IntoBytes + Immutable {
    /// Handle, address, and the address whose entry moves there.
    fn asked(&self) -> (u32, u64, Option<u64>);
    /// Where its status goes.
    fn status(&mut self) -> &mut i16;
}

impl Unmapping for UnmapGrantRef {
    fn asked(&self) -> (u32, u64, Option<u64>) {
        (self.handle, self.host_addr, None)
    }

    fn status(&mut self) -> &mut i16 {
        &mut self.status
    }
}

impl Unmapping for UnmapAndReplace {
    fn asked(&self) -> (u32, u64, Option<u64>) {
        (self.handle, self.host_addr, Some(self.new_addr))
    }

    fn status(&mut self) -> &mut i16 {
        &mut self.status
    }
}

/// Unmaps every element of a list, with as few flushes as can be.
pub(super) fn unmap_all<T: Unmapping>(vcpu: &mut Vcpu, args: &Args, count: u64) -> Outcome {
    let mut unmapped = UnmapBatch::default();
    let outcome = each::<T>(vcpu, args, count, |vcpu, element| {
        let (handle, address, replacement) = element.asked();
        let result = unmapped.add(&borrower(vcpu), handle, address, replacement);
        *element.status() = status(vcpu, result)?;
        Ok(())
    });
    // Before the guest hears of it, and also before a suspension.
    unmapped.finish(&borrower(vcpu));
    outcome
}
