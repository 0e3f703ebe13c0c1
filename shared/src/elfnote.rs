//! ELF notes of a guest image (`public/elfnote.h`); the owner's name is `Xen`.

/// Name of the notes' owner, without the final NUL.
pub const OWNER: &str = "Xen";

/// Kind of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
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
    /// The kind of a note's type field, if it is known.
    pub const fn from_number(number: u32) -> Option<Note> {
        use Note::*;
        const ALL: [Note; 20] = [
            Info,
            Entry,
            HypercallPage,
            VirtBase,
            PaddrOffset,
            XenVersion,
            GuestOs,
            GuestVersion,
            Loader,
            PaeMode,
            Features,
            BsdSymtab,
            HvStartLow,
            L1MfnValid,
            SuspendCancel,
            InitP2m,
            ModStartPfn,
            SupportedFeatures,
            Phys32Entry,
            Phys32Reloc,
        ];
        let index = number as usize;
        if index < ALL.len() { Some(ALL[index]) } else { None }
    }
}
