//! physdev_op: the commands that a domain without devices may use.

use crate::domain::vcpu::Vcpu;
use crate::memory::guest::GuestPtr;
use core::sync::atomic::Ordering;
use pinfold_abi::errno::Errno;
use pinfold_abi::physdev::*;

/// Highest privilege level.
const MAX_IOPL: u32 = 3;
/// Number of I/O ports.
const PORTS: u32 = 65_536;

/// `physdev_op(command, argument)`.
pub fn run(vcpu: &Vcpu, command: u64, argument: u64) -> Result<(), Errno> {
    match command {
        PHYSDEVOP_SET_IOPL => {
            let asked = GuestPtr::<SetIopl>::new(argument).read()?;
            if asked.iopl > MAX_IOPL {
                return Err(Errno::EINVAL);
            }
            vcpu.domain.iopl.store(asked.iopl, Ordering::Relaxed);
            Ok(())
        }
        PHYSDEVOP_SET_IOBITMAP => {
            let asked = GuestPtr::<SetIobitmap>::new(argument).read()?;
            // No port is accessible, whatever the bitmap says.
            if asked.nr_ports > PORTS { Err(Errno::EINVAL) } else { Ok(()) }
        }
        // Interrupts and devices: the domain has none.
        _ => Err(Errno::ENOSYS),
    }
}
