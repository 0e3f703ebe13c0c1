//! Lists with a fixed capacity.

use crate::fixed_vec::*;

fn list(capacity: usize, items: &[u8]) -> FixedVec<u8> {
    let mut list = FixedVec::with_capacity(capacity).unwrap();
    list.extend(items).unwrap();
    list
}

#[test]
fn items_that_do_not_fit_change_nothing() {
    let mut full = list(4, b"abc");
    assert_eq!(full.extend(b"de"), Err(Full));
    assert_eq!(full.replace(1..2, b"xyz"), Err(Full));
    assert_eq!(&*full, b"abc");
    full.insert(1, b'-').unwrap();
    assert_eq!(&*full, b"a-bc");
    assert_eq!((full.room(), full.push(b'd'), full.insert(0, b'd')), (0, Err(Full), Err(Full)));
    assert_eq!(full.extend_from_within(0..1), Err(Full));
    assert_eq!((full.remove(0), full.room()), (b'a', 1));
    full.extend_from_within(1..2).unwrap();
    assert_eq!(&*full, b"-bcb");
}

#[test]
fn replacing_moves_the_items_behind() {
    for (range, with, wanted) in [
        (1..3, &b"XYZ"[..], &b"aXYZdef"[..]),
        (1..3, b"X", b"aXdef"),
        (1..3, b"", b"adef"),
        (6..6, b"X", b"abcdefX"),
        (0..6, b"", b""),
        (0..0, b"", b"abcdef"),
    ] {
        let mut list = list(7, b"abcdef");
        list.replace(range, with).unwrap();
        assert_eq!(&*list, wanted);
    }
}
