//! A program for the Linux guest.

fn main() {}
