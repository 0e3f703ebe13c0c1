//! console_io: what a guest prints, and reads, before it has anything better.

use crate::domain::vcpu::Vcpu;
use crate::memory::guest;
use pinfold_abi::console::{CONSOLEIO_READ, CONSOLEIO_WRITE};
use pinfold_abi::errno::Errno;

/// Bytes copied at a time.
const CHUNK: u64 = 128;
/// Most bytes of one call: a longer text is cut, which bounds the work.
const MAX_BYTES: u64 = 64 * 1024;

/// `console_io(command, count, buffer)`.
#[inline(never)]
pub fn run(vcpu: &Vcpu, command: u64, count: u64, buffer: u64) -> Result<i64, Errno> {
    match command {
        CONSOLEIO_WRITE => write(vcpu, count, buffer).map(|()| 0),
        CONSOLEIO_READ => read(vcpu, count, buffer),
        _ => Err(Errno::ENOSYS),
    }
}

fn write(vcpu: &Vcpu, count: u64, buffer: u64) -> Result<(), Errno> {
    if count > i32::MAX as u64 {
        return Err(Errno::EINVAL);
    }
    let count = count.min(MAX_BYTES);
    let mut done = 0;
    while done < count {
        let mut chunk = [0; CHUNK as usize];
        let bytes = &mut chunk[..(count - done).min(CHUNK) as usize];
        guest::read_bytes(bytes, buffer.wrapping_add(done))?;
        vcpu.domain.console.lock().print(bytes);
        done += bytes.len() as u64;
    }
    Ok(())
}

/// Brings what was typed; a guest with a ring finds it there instead.
fn read(vcpu: &Vcpu, count: u64, buffer: u64) -> Result<i64, Errno> {
    let mut chunk = [0; CHUNK as usize];
    // Not more than can be written: what is taken must not get lost.
    let wanted = count.min(CHUNK) as usize;
    guest::write_bytes(buffer, &chunk[..wanted])?;
    let taken = vcpu.domain.console.lock().read(&mut chunk[..wanted]);
    guest::write_bytes(buffer, &chunk[..taken])?;
    Ok(taken as i64)
}
