//! Linux's boot image (bzImage): finding the ELF kernel in it.
//!
//! Such a file begins with code for the BIOS and a setup header (Linux's
//! `Documentation/arch/x86/boot.rst`), and carries the kernel as a compressed payload. Nothing in
//! the file names the compression: the payload's first bytes do. Xen unpacks it itself; Pinfold
//! gets the ELF file, so that no decompressor runs in the hypervisor.

use super::strip_elf;
use anyhow::{Context, Result, bail};
use std::io::Read;

/// Offsets in the file of the setup header's fields that matter here.
mod header {
    /// Sectors of setup code after the first one; 0 stands for 4. One byte.
    pub(super) const SETUP_SECTORS: usize = 0x1f1;
    /// "HdrS".
    pub(super) const MAGIC: usize = 0x202;
    /// The protocol's version, two bytes.
    pub(super) const VERSION: usize = 0x206;
    /// Where the payload begins, from the end of the setup code. Four bytes.
    pub(super) const PAYLOAD_OFFSET: usize = 0x248;
    /// The payload's bytes. Four bytes.
    pub(super) const PAYLOAD_LENGTH: usize = 0x24c;
}

const SECTOR: usize = 512;
/// The protocol's version 2.08: the first with the payload's place.
const PAYLOAD_VERSION: u32 = 0x208;
/// A kernel that says it is larger is not believed.
const LARGEST: u64 = 1 << 30;

/// True for a boot image.
pub(crate) fn is_one(file: &[u8]) -> bool {
    file.get(header::MAGIC..header::MAGIC + 4) == Some(b"HdrS")
}

/// The ELF kernel in a boot image, with what a loader needs of it and nothing more.
pub(crate) fn kernel(file: &[u8]) -> Result<Vec<u8>> {
    let elf = unpack(payload(file)?)?;
    if !elf.starts_with(b"\x7fELF") {
        bail!("what the boot image carries is no ELF file");
    }
    strip_elf::strip_elf(&elf).context("the kernel in the boot image")
}

fn number(file: &[u8], at: usize, width: usize) -> Result<usize> {
    let bytes = file.get(at..at + width).context("the boot image ends in its setup header")?;
    Ok(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}

/// The compressed payload.
fn payload(file: &[u8]) -> Result<&[u8]> {
    let version = number(file, header::VERSION, 2)?;
    if version < PAYLOAD_VERSION as usize {
        bail!(
            "the boot image has protocol {}.{:02}; its payload can be found from 2.08 on",
            version >> 8,
            version & 0xff
        );
    }
    let sectors = match number(file, header::SETUP_SECTORS, 1)? {
        0 => 4,
        sectors => sectors,
    };
    let start = (sectors + 1) * SECTOR + number(file, header::PAYLOAD_OFFSET, 4)?;
    let end = start + number(file, header::PAYLOAD_LENGTH, 4)?;
    file.get(start..end).with_context(|| {
        format!("the boot image's payload ends at {end:#x}, the file at {:#x}", file.len())
    })
}

/// The first bytes of what is compressed in each way that Linux's build knows.
const MARKS: &[(&[u8], Packing)] = &[
    (b"\xfd7zXZ\0", Packing::Xz),
    (b"\x28\xb5\x2f\xfd", Packing::Zstd),
    (b"\x1f\x8b", Packing::Gzip),
    (b"BZh", Packing::Bzip2),
    (b"\x02\x21\x4c\x18", Packing::Lz4),
    (b"\x5d\0\0", Packing::Lzma),
    (b"\x89LZO", Packing::Lzo),
    (b"\x7fELF", Packing::None),
];

/// How a payload is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Packing {
    Xz,
    Zstd,
    Gzip,
    Bzip2,
    Lz4,
    Lzma,
    Lzo,
    None,
}

fn unpack(payload: &[u8]) -> Result<Vec<u8>> {
    let Some((_, packing)) = MARKS.iter().find(|(mark, _)| payload.starts_with(mark)) else {
        let first = &payload[..payload.len().min(6)];
        bail!("the boot image's payload begins with {first:02x?}: no compression known here");
    };
    if *packing == Packing::None {
        return Ok(payload.to_vec());
    }
    // The last four bytes are the size of what was packed: the build puts them there, or (gzip)
    // the format itself does.
    let (stream, size) = payload.split_last_chunk::<4>().context("the payload is too short")?;
    let size = u64::from(u32::from_le_bytes(*size));
    if size > LARGEST {
        bail!("the boot image's payload claims to hold {size} bytes");
    }
    let reader: Box<dyn Read + '_> = match packing {
        Packing::Xz => Box::new(lzma_rust2::XzReader::new(stream, false)),
        Packing::Zstd => Box::new(
            ruzstd::decoding::StreamingDecoder::new_with_max_window_size(stream, LARGEST)
                .context("the boot image's zstd stream")?,
        ),
        Packing::Gzip => Box::new(flate2::read::GzDecoder::new(payload)),
        Packing::Bzip2 => Box::new(bzip2::read::BzDecoder::new(stream)),
        Packing::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(stream)),
        Packing::Lzma => Box::new(
            lzma_rust2::LzmaReader::new_mem_limit(stream, u32::MAX, None)
                .context("the boot image's LZMA stream")?,
        ),
        Packing::Lzo => bail!("the boot image is compressed with LZO, which is not read here"),
        Packing::None => unreachable!("answered above"),
    };
    let mut kernel = Vec::with_capacity(size as usize);
    reader
        .take(size + 1)
        .read_to_end(&mut kernel)
        .with_context(|| format!("cannot unpack the boot image ({packing:?})"))?;
    if kernel.len() as u64 != size {
        bail!("the boot image says it holds {size} bytes, but {} came out", kernel.len());
    }
    Ok(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the samples hold: `\x7fELF`, then this text a hundred times.
    fn plain() -> Vec<u8> {
        [b"\x7fELF".to_vec(), b"pinfold ".repeat(100)].concat()
    }

    /// A boot image around a payload.
    fn image(stream: &[u8], size: u32) -> Vec<u8> {
        let mut file = vec![0; 0x2000];
        file[header::SETUP_SECTORS] = 1;
        file[header::MAGIC..][..4].copy_from_slice(b"HdrS");
        file[header::VERSION..][..2].copy_from_slice(&0x20fu16.to_le_bytes());
        file[header::PAYLOAD_OFFSET..][..4].copy_from_slice(&0x40u32.to_le_bytes());
        let payload = [stream, &size.to_le_bytes()].concat();
        file[header::PAYLOAD_LENGTH..][..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        file[2 * SECTOR + 0x40..][..payload.len()].copy_from_slice(&payload);
        file
    }

    /// `plain()`, packed as Linux's build does it (`xz --check=crc32 --x86 --lzma2`, `lz4 -l`, and
    /// so on).
    const SAMPLES: &[(&str, &[u8])] = &[
        (
            "xz",
            b"\xfd\x37\x7a\x58\x5a\x00\x00\x01\x69\x22\xde\x36\x02\x01\x04\x00\x21\x01\x1a\x00\x01\
              \xc9\x80\xb3\xe0\x03\x23\x00\x16\x5d\x00\x3f\x91\x45\x84\x6c\x60\xb0\xfa\xc0\x0f\xf5\
              \x34\x56\x27\xb0\xa0\x46\xf7\x79\x98\x0c\xc0\x00\x00\x00\x49\x85\x58\x32\x00\x01\x2e\
              \xa4\x06\x00\x00\x00\x11\xd6\x3f\x5e\x3e\x30\x0d\x8b\x02\x00\x00\x00\x00\x01\x59\x5a",
        ),
        (
            "zstd",
            b"\x28\xb5\x2f\xfd\x04\x88\x9d\x00\x00\x60\x7f\x45\x4c\x46\x70\x69\x6e\x66\x6f\x6c\x64\
              \x20\x01\x00\x15\x57\x37\x09\xbb\x95\xcc\x87",
        ),
        (
            "gzip",
            b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xab\x77\xf5\x71\x2b\xc8\xcc\x4b\xcb\xcf\x49\
              \x51\x18\xa5\x47\xe9\x51\x1a\x93\x06\x00\x49\x85\x58\x32",
        ),
        (
            "bzip2",
            b"\x42\x5a\x68\x39\x31\x41\x59\x26\x53\x59\xf0\x81\x4d\x18\x00\x01\x91\x95\x80\x40\x00\
              \x03\x04\x05\x25\xc0\x00\xa0\x00\x50\x81\xa0\x68\x05\x2a\x86\x80\xf5\x34\x45\x9c\xeb\
              \xc2\x2f\x48\xb0\x8b\x08\xb0\x8b\x08\xb3\x08\xbf\x17\x72\x45\x38\x50\x90\xf0\x81\x4d\
              \x18",
        ),
        (
            "lz4",
            b"\x02\x21\x4c\x18\x19\x00\x00\x00\xcf\x7f\x45\x4c\x46\x70\x69\x6e\x66\x6f\x6c\x64\x20\
              \x08\x00\xff\xff\xff\x03\x50\x66\x6f\x6c\x64\x20",
        ),
        (
            "lzma",
            b"\x5d\x00\x00\x00\x04\xff\xff\xff\xff\xff\xff\xff\xff\x00\x3f\x91\x45\x84\x6c\x60\xb0\
              \xfa\xc0\x0f\xf5\x34\x56\x27\xb0\xa0\x46\xf7\x7a\x34\x2f\x93\xff\xff\xb8\xd2\x00\x00",
        ),
    ];

    #[test]
    fn every_compression_unpacks() {
        let plain = plain();
        for (name, stream) in SAMPLES {
            let file = image(stream, plain.len() as u32);
            let unpacked = unpack(payload(&file).unwrap());
            assert!(unpacked.is_ok_and(|bytes| bytes == plain), "{name}");
        }
    }

    #[test]
    fn a_wrong_size_is_no_kernel() {
        for (name, stream) in SAMPLES {
            for size in [0, 803, 805, u32::MAX] {
                let file = image(stream, size);
                assert!(unpack(payload(&file).unwrap()).is_err(), "{name} {size}");
            }
            let cut = image(&stream[..stream.len() / 2], 804);
            assert!(unpack(payload(&cut).unwrap()).is_err(), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let words = |payload: &[u8]| format!("{:#}", unpack(payload).unwrap_err());
        assert!(words(b"\x89LZO\0\x0d\x0a\x1a\x0a....").contains("LZO"));
        assert!(words(b"\xde\xad\xbe\xef....").contains("de, ad, be, ef"));
        let mut old = image(b"", 0);
        old[header::VERSION] = 7;
        assert!(payload(&old).unwrap_err().to_string().contains("2.07"));
        let mut far = image(b"", 0);
        far[header::PAYLOAD_OFFSET + 3] = 0xff;
        assert!(payload(&far).is_err());
        assert!(payload(&image(b"", 0)[..0x240]).is_err());
    }
}
