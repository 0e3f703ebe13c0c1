//! ELF notes of a guest image (`public/elfnote.h`).

use strum::{FromRepr, IntoStaticStr};

/// Owner name of the notes (`n_name`), without the final NUL.
pub const OWNER: &str = "Xen";

/// Type of a note (`n_type`). [`Note::from_repr`] is `None` for an unknown type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromRepr, IntoStaticStr)]
#[repr(u32)]
#[strum(serialize_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "the names are those of public/elfnote.h")]
pub enum Note {
    Info = 0,
    Entry = 1,
    HypercallPage = 2,
    VirtBase = 3,
    PaddrOffset = 4,
    XenVersion = 5,
    GuestOs = 6,
    GuestVersion = 7,
    Loader = 8,
    PaeMode = 9,
    Features = 10,
    BsdSymtab = 11,
    HvStartLow = 12,
    L1MfnValid = 13,
    SuspendCancel = 14,
    InitP2m = 15,
    ModStartPfn = 16,
    SupportedFeatures = 17,
    Phys32Entry = 18,
    Phys32Reloc = 19,
}

impl Note {
    /// The name in `public/elfnote.h` without `XEN_ELFNOTE_`, such as `HYPERCALL_PAGE`.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_header() {
        let names = [13, 15, 18].map(|number| Note::from_repr(number).map(Note::name));
        assert_eq!(names, [Some("L1_MFN_VALID"), Some("INIT_P2M"), Some("PHYS32_ENTRY")]);
        assert_eq!(Note::from_repr(20), None);
    }
}
