//! Ctrl-C during a purchase: the daemon is told to stop, and has the last word about what was used and spent.

use super::{Failure, Output, Place, daemon, show};
use crate::control::{Hex, Request, Response};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use turnpike_protocol::base::NodeId;

/// How long the daemon may take to answer before this program ends without its answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Exit status of a program that an interrupt ended, as shells have it.
const INTERRUPTED: i32 = 130;

/// The relay from which is being bought, as soon as it is known.
#[derive(Clone, Default)]
pub(super) struct Bought {
    relay: Arc<Mutex<Option<Hex<NodeId>>>>,
    /// Held from an interrupt until the daemon's answer to it is shown.
    stopping: Arc<Mutex<()>>,
}

impl Bought {
    /// It is this one.
    pub fn from(&self, relay: Hex<NodeId>) {
        *self.relay.lock().unwrap_or_else(PoisonError::into_inner) = Some(relay);
    }

    fn relay(&self) -> Option<Hex<NodeId>> {
        *self.relay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of what an interrupt began.
    pub fn told(&self) {
        drop(self.stopping.lock());
    }
}

/// From now on the first Ctrl-C stops the purchase, whose request then ends with its figures; a second one, or a
/// daemon that does not answer, ends this program.
///
/// # Errors
/// The system gives no thread or no signal handler.
pub(super) fn watch(place: &Place, output: &Output, bought: &Bought) -> Result<(), Failure> {
    let (place, output, bought) = (place.clone(), *output, bought.clone());
    let cannot = |error: std::io::Error| Failure::new(format!("{error}: free some memory"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(cannot)?;
    let mut interrupts = {
        let _inside = runtime.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).map_err(cannot)?
    };
    let work = move || {
        runtime.block_on(async move {
            interrupts.recv().await;
            // The main thread ends this program as soon as the purchase is over.
            std::thread::spawn(move || stop(&place, &output, &bought));
            tokio::select! {
                _ = interrupts.recv() => {}
                () = tokio::time::sleep(PATIENCE) => {}
            }
            Failure::new("interrupted: nothing more is bought, and credit is kept: see `turnpike status`")
                .report();
            std::process::exit(INTERRUPTED);
        });
    };
    std::thread::Builder::new().spawn(work).map_err(cannot)?;
    Ok(())
}

/// As `turnpike stop`. Where nothing is being bought yet, closing the request calls it off.
fn stop(place: &Place, output: &Output, bought: &Bought) {
    let _until_told = bought.stopping.lock();
    let Some(relay) = bought.relay() else {
        Failure::new("interrupted before anything was bought: run it again").report();
        std::process::exit(INTERRUPTED);
    };
    match daemon::ask(place, Request::StopBuying { relay: Some(relay) }) {
        Ok(Response::Stopped { relays }) if relays.is_empty() => {
            Failure::new("interrupted before anything was bought: run it again").report();
            std::process::exit(INTERRUPTED);
        }
        Ok(stopped) => output.note(show::response(&stopped).trim_end()),
        Err(failure) => {
            failure.report();
            std::process::exit(INTERRUPTED);
        }
    }
}
