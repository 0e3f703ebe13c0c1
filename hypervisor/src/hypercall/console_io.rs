//! console_io: what a guest prints before it has anything better.

use crate::domain::vcpu::Vcpu;
use crate::memory::guest;
use pinfold_abi::console::{CONSOLEIO_READ, CONSOLEIO_WRITE};
use pinfold_abi::errno::Errno;

/// Bytes copied at a time.
const CHUNK: u64 = 128;
/// Most bytes of one call: a longer text is cut, which bounds the work.
const MAX_BYTES: u64 = 64 * 1024;

/// `console_io(command, count, buffer)`.
pub fn run(vcpu: &Vcpu, command: u64, count: u64, buffer: u64) -> Result<i64, Errno> {
    match command {
        CONSOLEIO_WRITE => write(vcpu, count, buffer).map(|()| 0),
        CONSOLEIO_READ => Ok(0),
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
        vcpu.domain.console.lock().print(vcpu.domain.id, bytes);
        done += bytes.len() as u64;
    }
    Ok(())
}
