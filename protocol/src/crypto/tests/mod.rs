//! Judged by published vectors and by derivations that another program made.

mod bip340;
mod keys;
mod seed;
mod statement;
