//! Mapping and unmapping of grants.

use super::elements::{Preempted, each, status};
use crate::domain::vcpu::Args;
use crate::domain::vcpu::Vcpu;
use crate::grant::mapper;
use crate::hypercall::outcome::Outcome;
use pinfold_abi::grant::{MapFlags, MapGrantRef, Status, UnmapAndReplace, UnmapGrantRef};
use pinfold_core::grant::mapping::{MapError, MapRequest, UnmapBatch};
use pinfold_validator::{DomId, Mfn};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Maps one grant.
pub(super) fn map(vcpu: &mut Vcpu, asked: &mut MapGrantRef) -> Result<(), Preempted> {
    let flags = MapFlags::from_bits_retain(asked.flags);
    let mapped = if flags.contains(MapFlags::DEVICE_MAP) {
        // There are no devices, and no IOMMU.
        Err(MapError::Status(Status::NoDeviceSpace))
    } else if !flags.contains(MapFlags::HOST_MAP) {
        Err(MapError::Status(Status::BadReference))
    } else {
        mapper(vcpu).map(&MapRequest {
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
    /// Handle, address, and the address whose mapping replaces this one.
    fn asked(&self) -> (u32, u64, Option<u64>);
    /// Sets the status.
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

/// Unmaps every element of a list, with as few TLB flushes as possible.
pub(super) fn unmap_all<T: Unmapping>(vcpu: &mut Vcpu, args: &Args, count: u64) -> Outcome {
    let mut unmapped = UnmapBatch::default();
    let outcome = each::<T>(vcpu, args, count, |vcpu, element| {
        let (handle, address, replacement) = element.asked();
        let result = unmapped.add(&mapper(vcpu), handle, address, replacement);
        *element.status() = status(vcpu, result)?;
        Ok(())
    });
    // Before the call returns, and also before it is preempted.
    unmapped.finish(&mapper(vcpu));
    outcome
}
