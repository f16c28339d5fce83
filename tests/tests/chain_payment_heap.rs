//! The metering hot path works without a heap: a payment is signed and checked without one allocation.

use bitcoin::key::Secp256k1;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use turnpike_protocol::base::{BlockHeight, Outpoint, Sat, Txid};
use turnpike_protocol::money::channel::tx::{Form, PaymentDigest, PaymentError, Terms};
use turnpike_tests::simplex::{key, xonly};

/// The system's allocator, counting what this thread asks of it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system's allocator unchanged; counting touches a constant-initialised
// thread-local without a destructor, which allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|n| n.set(n.get() + 1));
        // SAFETY: the caller's promises about `layout` are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `System.alloc` with this layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn rule_5_a_payment_is_signed_and_checked_without_an_allocation() {
    assert_ne!(
        allocations(|| drop(std::hint::black_box(vec![0u8; 64]))),
        0,
        "the counter counts"
    );

    let secp = Secp256k1::new();
    let (payer, payee) = (key(&secp, "payer"), key(&secp, "payee"));
    let terms = Terms {
        payer_key: xonly(&payer),
        payee_key: xonly(&payee),
        capacity: Sat::new(50_000),
        expiry: BlockHeight::new(800_000),
    };
    let outpoint = Outpoint {
        txid: Txid::from_bytes([7; 32]),
        vout: 1,
    };
    let count = allocations(|| {
        let payments = PaymentDigest::new(&secp, &terms, outpoint).unwrap();
        for paid in [0, 1, 49_670, 49_671, 50_000].map(Sat::new) {
            let form = if paid.value() > 49_670 {
                Form::None
            } else {
                Form::Single
            };
            assert_eq!(payments.digest(paid).unwrap().0, form);
            let signature = payments.sign_payment(&secp, &payer, paid).unwrap();
            payments.verify_payment(&secp, paid, &signature).unwrap();
            let mut forged = signature;
            forged[40] ^= 1;
            assert_eq!(
                payments.verify_payment(&secp, paid, &forged),
                Err(PaymentError::BadSignature)
            );
        }
        assert!(payments.digest(Sat::new(50_001)).is_err());
    });
    assert_eq!(count, 0);
}
