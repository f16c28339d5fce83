//! Errors of the daemon's parts as failures of a request.

use crate::chain::OrderError;
use crate::control::Failed;
use crate::daemon::core::Down;
use crate::store::StoreError;
use std::future::Future;
use std::time::Duration;
use turnpike_protocol::node::CommandError;
use turnpike_protocol::wire::ErrorCode;

impl From<Down> for Failed {
    fn from(down: Down) -> Self {
        Failed::daemon(down, "wait, and start it again")
    }
}

/// A command that the node refused: its text is "what happened: what to do".
pub(super) fn command(error: CommandError) -> Failed {
    match error {
        CommandError::Prices(_) | CommandError::Policy(_) => usage(error),
        _ => Failed::from_error(error),
    }
}

/// The request itself was wrong.
pub(super) fn usage(error: impl ToString) -> Failed {
    let Failed { error, remedy, .. } = Failed::from_error(error);
    Failed::usage(error, remedy)
}

/// The chain task or the wallet refused: their texts are "what happened; what to do".
pub(super) fn order(error: OrderError) -> Failed {
    let text = error.to_string();
    match text.rsplit_once("; ") {
        Some((error, remedy)) => Failed::refused(error, remedy),
        None => Failed::from_error(text),
    }
}

/// The store could not be read.
pub(super) fn store(error: StoreError) -> Failed {
    let Failed { error, remedy, .. } = Failed::from_error(error);
    Failed::daemon(error, remedy)
}

/// A peer's reason, with the number that belongs to it where that helps.
pub(super) fn peer(code: ErrorCode, detail: u64) -> Failed {
    let text = code.text();
    match code {
        ErrorCode::CopiedStore | ErrorCode::FeesTooHigh if detail > 0 => {
            let Failed { error, remedy, .. } = Failed::from_error(text);
            Failed::refused(format!("{error} ({detail})"), remedy)
        }
        _ => Failed::from_error(text),
    }
}

/// Waits for `what`, but not longer than `limit`; `late` says what did not happen.
pub(super) async fn within<T>(
    limit: Duration,
    what: impl Future<Output = Result<T, Failed>>,
    late: impl FnOnce() -> Failed,
) -> Result<T, Failed> {
    tokio::time::timeout(limit, what)
        .await
        .unwrap_or_else(|_| Err(late()))
}
