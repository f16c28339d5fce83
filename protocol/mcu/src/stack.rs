//! How deep the stack ever was: start-up code paints it, and what lost its paint was used.

/// What `cortex-m-rt` (feature `paint-stack`) fills the stack with.
const PAINT: u32 = 0xCCCC_CCCC;

/// The most bytes of stack that were in use at once.
pub fn high_water() -> usize {
    unsafe extern "C" {
        static _stack_start: u32;
        static _stack_end: u32;
    }
    let (top, mut word) = (&raw const _stack_start, &raw const _stack_end);
    // SAFETY: both symbols come from the linker script; the words between them are RAM that start-up code
    // wrote. They are read volatile because the compiler does not know of them.
    unsafe {
        while word < top && word.read_volatile() == PAINT {
            word = word.add(1);
        }
    }
    top as usize - word as usize
}
