//! What the hypervisor passes to the guest at its start.

use pinfold_abi::start_info::{SIF_INITDOMAIN, StartInfo};

/// First address of the initial address space: pfn 0 is here, pfn n is n pages further on.
pub const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;

/// The start-of-day page.
#[derive(Clone, Copy, Debug)]
pub struct Boot {
    info: &'static StartInfo,
}

impl Boot {
    pub(super) fn new(info: &'static StartInfo) -> Boot {
        Boot { info }
    }

    /// The page itself.
    pub fn start_info(&self) -> &'static StartInfo {
        self.info
    }

    /// Whether the guest is the first, privileged domain: it is on a stock Xen.
    pub fn is_first_domain(&self) -> bool {
        self.info.flags & SIF_INITDOMAIN != 0
    }

    /// The command line, up to the first byte that is not UTF-8.
    pub fn command_line(&self) -> &'static str {
        let line = &self.info.cmd_line;
        let end = line.iter().position(|&byte| byte == 0).unwrap_or(line.len());
        match core::str::from_utf8(&line[..end]) {
            Ok(text) => text,
            Err(error) => core::str::from_utf8(&line[..error.valid_up_to()]).unwrap_or_default(),
        }
    }

    /// The value of the last `key=value` word of the command line.
    pub fn option(&self, key: &str) -> Option<&'static str> {
        let words = self.command_line().split_ascii_whitespace().rev();
        words.filter_map(|word| word.split_once('=')).find(|(k, _)| *k == key).map(|(_, v)| v)
    }

    /// The number after `key=`, or this default if there is no such word or it has no number.
    pub fn number(&self, key: &str, default: u64) -> u64 {
        self.option(key).and_then(|value| value.parse().ok()).unwrap_or(default)
    }

    /// Whether this word is on the command line.
    pub fn has_word(&self, word: &str) -> bool {
        self.command_line().split_ascii_whitespace().any(|w| w == word)
    }
}
