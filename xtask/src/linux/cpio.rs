//! Writing a cpio archive in the "newc" format, the one that Linux unpacks as its first root
//! (Linux's `Documentation/driver-api/early-userspace/buffer-format.rst`).

/// File types in a mode.
mod kind {
    pub(super) const CHARACTER_DEVICE: u32 = 0o020_000;
    pub(super) const FOLDER: u32 = 0o040_000;
    pub(super) const FILE: u32 = 0o100_000;
    pub(super) const LINK: u32 = 0o120_000;
}

/// An archive that is being written. Folders come before what is in them: Linux makes none by
/// itself. All belongs to root and has no date, so the same content gives the same bytes.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a folder.
    pub(crate) fn folder(&mut self, path: &str) {
        self.entry(path, kind::FOLDER | 0o755, (0, 0), &[]);
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, path: &str, executable: bool, content: &[u8]) {
        let mode = if executable { 0o755 } else { 0o644 };
        self.entry(path, kind::FILE | mode, (0, 0), content);
    }

    /// Adds a symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.entry(path, kind::LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// Adds a character device.
    pub(crate) fn device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, kind::CHARACTER_DEVICE | 0o600, (major, minor), &[]);
    }

    /// The whole archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let links = if mode & 0o170_000 == kind::FOLDER { 2 } else { 1 };
        let length = u32::try_from(content.len()).expect("files of an initramfs are small");
        let (major, minor) = device;
        // Inode, mode, owner, group, links, time, size, the device the file lies on, the device
        // it is, the name's bytes with the NUL, and a checksum that this format leaves at zero.
        let name = path.len() as u32 + 1;
        let fields = [self.entries, mode, 0, 0, links, 0, length, 0, 0, major, minor, name, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_its_documented_form() {
        let mut archive = Archive::default();
        archive.device("dev/console", 5, 1);
        archive.file("a", true, b"hello");
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes).replace('\0', ".");
        let expected = concat!(
            "07070100000001000021800000000000000000000000010000000000000000",
            "000000000000000000000005000000010000000c00000000dev/console...",
            "07070100000002000081ed0000000000000000000000010000000000000005",
            "000000000000000000000000000000000000000200000000a.hello...",
            "070701000000030000000000000000000000000000000100000000000000",
            "00000000000000000000000000000000000000000b00000000TRAILER!!!.",
        );
        assert_eq!(text.trim_end_matches('.'), expected.trim_end_matches('.'));
        assert_eq!(bytes.len() % 4, 0);
    }
}
