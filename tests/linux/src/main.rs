<<<<<<< HEAD
fn main(){}
=======
//! A program for the Linux guest.

fn main() {}
>>>>>>> l
