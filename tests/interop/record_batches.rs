//! Records what the Python tests ask for.

fn main() {}
