//! The accept loop: takes connections off the system's queue, no faster than refusing all of them may cost.

use super::Links;
use super::bucket::Bucket;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// First and longest pause after the system refused to accept: descriptors or memory ran out, which does not pass at
/// once. Each further pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Runs until it is aborted.
pub(super) async fn run(links: Links, listener: TcpListener) {
    let mut pace = Bucket::full(links.limits().accepts, Instant::now());
    let mut pause = FIRST_PAUSE;
    loop {
        pace.charge(0, Instant::now());
        if let Some(at) = pace.ready_at() {
            tokio::time::sleep_until(at.into()).await;
        }
        match listener.accept().await {
            Ok((stream, remote)) => {
                pause = FIRST_PAUSE;
                pace.charge(1, Instant::now());
                links.accepted(stream, remote);
            }
            Err(error) => {
                tracing::warn!(
                    "cannot accept connections, those that exist go on ({error}): trying again in {} ms",
                    pause.as_millis()
                );
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}
