//! Images that must be refused, each made from a good one by corrupting one thing.

/// What is corrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Corruption {
    /// The file ends in the middle of the ELF header.
    CutHeader,
    /// The file ends where the first segment's bytes begin.
    CutFile,
    /// Bytes of this width at this offset of the ELF header get this value.
    Header(usize, u8, u64),
    /// This field of the program header at this index gets this value.
    Program(usize, Field, u64),
    /// The second loadable segment goes where the first one is.
    Overlap,
    /// The note of this type gets a type that nobody knows.
    ForgetNote(u32),
    /// The value of the note of this type becomes zero.
    ZeroNote(u32),
    /// The notes have another owner.
    ForeignNotes,
}

/// A field of a program header: its offset there. All are eight bytes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Field {
    /// Where the bytes are in the file.
    Offset = 8,
    /// Where they go.
    Paddr = 24,
    /// How many there are in the file.
    FileSize = 32,
    /// How many there are in memory.
    MemorySize = 40,
}

const HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;
const PT_LOAD: u64 = 1;
const PT_NOTE: u64 = 4;

impl Corruption {
    /// The corrupted image; `None` if this one has nothing to corrupt there.
    pub(super) fn apply(self, mut image: Vec<u8>) -> Option<Vec<u8>> {
        match self {
            Corruption::CutHeader => image.truncate(HEADER / 2),
            Corruption::CutFile => {
                let first = *loadable(&image)?.first()?;
                let offset = get(&image, first + Field::Offset as usize, 8)? as usize;
                image.truncate(offset);
            }
            Corruption::Header(at, width, value) => put(&mut image, at, width, value)?,
            Corruption::Program(index, field, value) => {
                let at = *loadable(&image)?.get(index)?;
                put(&mut image, at + field as usize, 8, value)?;
            }
            Corruption::Overlap => {
                let segments = loadable(&image)?;
                let first = get(&image, segments.first()? + Field::Paddr as usize, 8)?;
                put(&mut image, segments.get(1)? + Field::Paddr as usize, 8, first)?;
            }
            Corruption::ForgetNote(kind) => {
                let at = note(&image, kind)?;
                put(&mut image, at + 8, 4, 0x7777_7777)?;
            }
            Corruption::ZeroNote(kind) => {
                let at = note(&image, kind)?;
                let length = get(&image, at + 4, 4)? as usize;
                image.get_mut(at + 16..at + 16 + length)?.fill(0);
            }
            Corruption::ForeignNotes => {
                for at in notes(&image)? {
                    put(&mut image, at + 12, 4, u64::from(u32::from_le_bytes(*b"Abc\0")))?;
                }
            }
        }
        Some(image)
    }
}

fn get(image: &[u8], at: usize, width: u8) -> Option<u64> {
    let mut bytes = [0; 8];
    let width = usize::from(width);
    bytes.get_mut(..width)?.copy_from_slice(image.get(at..at + width)?);
    Some(u64::from_le_bytes(bytes))
}

fn put(image: &mut [u8], at: usize, width: u8, value: u64) -> Option<()> {
    let width = usize::from(width);
    image.get_mut(at..at + width)?.copy_from_slice(&value.to_le_bytes()[..width]);
    Some(())
}

/// Offsets of the program headers of a type.
fn headers(image: &[u8], wanted: u64) -> Option<Vec<usize>> {
    let (start, count) = (get(image, 32, 8)? as usize, get(image, 56, 2)? as usize);
    let all = (0..count).map(|index| start + index * PROGRAM_HEADER);
    Some(all.filter(|at| get(image, *at, 4) == Some(wanted)).collect())
}

fn loadable(image: &[u8]) -> Option<Vec<usize>> {
    headers(image, PT_LOAD)
}

/// Offsets of the notes: name length, value length, type, then name and value in fours.
fn notes(image: &[u8]) -> Option<Vec<usize>> {
    let header = *headers(image, PT_NOTE)?.first()?;
    let mut at = get(image, header + Field::Offset as usize, 8)? as usize;
    let end = at + get(image, header + Field::FileSize as usize, 8)? as usize;
    let mut found = Vec::new();
    while at + 12 <= end {
        found.push(at);
        let (name, value) = (get(image, at, 4)? as usize, get(image, at + 4, 4)? as usize);
        at += 12 + name.next_multiple_of(4) + value.next_multiple_of(4);
    }
    Some(found)
}

fn note(image: &[u8], kind: u32) -> Option<usize> {
    notes(image)?.into_iter().find(|at| get(image, at + 8, 4) == Some(kind.into()))
}
