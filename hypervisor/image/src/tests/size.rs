//! Sizes as text.

use crate::size::*;
use alloc::string::ToString;

#[test]
fn units_are_binary_in_any_case() {
    for (text, bytes) in [
        ("0", 0),
        ("4096", 4096),
        ("64M", 64 << 20),
        ("64 MiB", 64 << 20),
        (" 3g ", 3 << 30),
        ("1kb", 1024),
        ("2T", 2 << 40),
        ("17B", 17),
    ] {
        assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
    }
}

#[test]
fn invalid_text_gives_an_error_in_words() {
    for text in ["", "M", "-1M", "1.5G", "64Q", "99999999999999999999", "99999999T"] {
        let error = Size::parse(text).unwrap_err();
        assert!(error.contains("is not a size"), "{text}: {error}");
    }
}

#[test]
fn a_written_size_is_parsed_back() {
    for bytes in [0, 1, 4095, 4096, 64 << 20, 1536 << 20, 1 << 40, u64::MAX] {
        assert_eq!(Size::parse(&Size(bytes).to_string()), Ok(Size(bytes)));
    }
    assert_eq!(Size(1536 << 20).to_string(), "1536M");
}
