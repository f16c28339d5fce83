//! A heap in a static arena that knows how much of it was ever used at once.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::addr_of_mut;
use core::sync::atomic::{AtomicUsize, Ordering};
use embedded_alloc::LlffHeap;

/// Bytes set aside. What the replay really takes is reported, and is far less.
const ARENA: usize = 128 * 1024;

static mut SPACE: [u64; ARENA / 8] = [0; ARENA / 8];
static USED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counted(LlffHeap);

#[global_allocator]
static HEAP: Counted = Counted(LlffHeap::empty());

// SAFETY: every call goes to `LlffHeap`, which keeps the contract; the counters only watch.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's layout is passed on as it came.
        let start = unsafe { self.0.alloc(layout) };
        if !start.is_null() {
            // One core and no interrupt handler that allocates: load and store cannot be torn apart.
            let used = USED.load(Ordering::Relaxed) + layout.size();
            USED.store(used, Ordering::Relaxed);
            PEAK.store(used.max(PEAK.load(Ordering::Relaxed)), Ordering::Relaxed);
        }
        start
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: `start` and `layout` are passed on as they came.
        unsafe { self.0.dealloc(start, layout) };
        USED.store(USED.load(Ordering::Relaxed) - layout.size(), Ordering::Relaxed);
    }
}

/// Gives the arena to the allocator. To be called once, before the first allocation.
pub fn start() {
    // SAFETY: `SPACE` is used nowhere else, and `main` calls this once, first of all.
    unsafe { HEAP.0.init(addr_of_mut!(SPACE) as usize, ARENA) }
}

/// The most bytes that were allocated at once.
pub fn high_water() -> usize {
    PEAK.load(Ordering::Relaxed)
}

/// Bytes of `.data` and `.bss`, the arena apart.
pub fn static_bytes() -> usize {
    unsafe extern "C" {
        static __sdata: u32;
        static __ebss: u32;
    }
    // Only the addresses of these two count; nothing is read.
    let (first, last) = (&raw const __sdata as usize, &raw const __ebss as usize);
    last - first - ARENA
}
