//! console_io: console output and input by hypercall, for guests that don't use the ring (yet).

use super::outcome::{Outcome, create_continuation};
use crate::arch::{apic, ipi};
use crate::domain::vcpu::Vcpu;
use crate::memory::guest;
use pinfold_abi::console::{CONSOLEIO_READ, CONSOLEIO_WRITE};
use pinfold_abi::errno::Errno;

/// Bytes copied at a time.
const CHUNK: u64 = 128;

/// `console_io(command, count, buffer)`.
#[inline(never)]
pub fn run(vcpu: &mut Vcpu, command: u64, count: u64, buffer: u64) -> Outcome {
    match command {
        CONSOLEIO_WRITE => match write(vcpu, count, buffer) {
            Ok(outcome) => outcome,
            Err(errno) => Outcome::Done(errno.as_result()),
        },
        CONSOLEIO_READ => read(vcpu, count, buffer).into(),
        _ => Outcome::Done(Errno::ENOSYS.as_result()),
    }
}

/// Prints. The call is preempted when the log's buffer is full, as the serial port is slow, or when
/// the time slice is over, and restarted with the rest.
fn write(vcpu: &mut Vcpu, count: u64, buffer: u64) -> Result<Outcome, Errno> {
    if count > i32::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let mut done = 0;
    while done < count {
        let mut chunk = [0; CHUNK as usize];
        let bytes = &mut chunk[..(count - done).min(CHUNK) as usize];
        let at = buffer.wrapping_add(done);
        guest::read_bytes(bytes, at)?;
        let printed = vcpu.domain.console.lock().print(bytes);
        done += printed as u64;
        ipi::service_ipis();
        if done < count && (printed < bytes.len() || apic::timer_is_pending()) {
            let rest = [CONSOLEIO_WRITE, count - done, buffer.wrapping_add(done), 0, 0];
            return Ok(create_continuation(vcpu, rest));
        }
    }
    Ok(Outcome::Done(0))
}

/// Returns typed bytes. A guest with a ring gets them there instead.
fn read(vcpu: &Vcpu, count: u64, buffer: u64) -> Result<i64, Errno> {
    let mut chunk = [0; CHUNK as usize];
    // Only as many bytes as can be written: those that are taken must not be lost.
    let wanted = count.min(CHUNK) as usize;
    guest::write_bytes(buffer, &chunk[..wanted])?;
    let taken = vcpu.domain.console.lock().read(&mut chunk[..wanted]);
    guest::write_bytes(buffer, &chunk[..taken])?;
    Ok(taken as i64)
}
