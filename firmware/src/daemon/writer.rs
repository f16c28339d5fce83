//! The disk's own thread: makes one batch after the other durable, while the node goes on deciding.
//!
//! What comes in: a [`Batch`]. What goes out: that it is durable, or why not. What it never does: begin a batch while
//! another one is being written, or say that a batch is durable before it is.

use super::rows::Batch;
use crate::store::{Store, StoreError};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use tokio::sync::mpsc as answers;

/// Writes batches. Call order: [`Writer::begin`], then [`Writer::finished`] or [`Writer::wait`], then the next.
pub struct Writer {
    /// `None` only while it is being dropped.
    work: Option<mpsc::Sender<(Batch, Commit)>>,
    done: answers::Receiver<Result<(), StoreError>>,
    busy: bool,
    thread: Option<JoinHandle<()>>,
}

/// What becomes of the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Commit {
    /// It grows by the batch's entries.
    Append,
    /// The batch holds the rows that it came to: it is emptied.
    Fold,
}

/// The thread is gone, which it never is before its writer: it can only have panicked.
const GONE: &str = "the store's thread lives as long as its writer";

impl Writer {
    /// Starts the thread; it ends when the writer is dropped.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(store: Arc<Store>) -> std::io::Result<Writer> {
        let (work, orders) = mpsc::channel::<(Batch, Commit)>();
        let (answer, done) = answers::channel(1);
        let run = move || {
            while let Ok((mut batch, commit)) = orders.recv() {
                let result = match commit {
                    Commit::Append => batch.commit(&store),
                    Commit::Fold => batch.commit_folded(&store),
                };
                if answer.blocking_send(result).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("store".to_owned()).spawn(run)?;
        Ok(Writer {
            work: Some(work),
            done,
            busy: false,
            thread: Some(thread),
        })
    }

    /// Whether a batch is being written.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Hands a batch over.
    ///
    /// # Panics
    /// If the one before was not waited for, or the thread has panicked.
    pub fn begin(&mut self, batch: Batch, commit: Commit) {
        assert!(!self.busy, "one batch at a time");
        self.busy = true;
        let sent = self.work.as_ref().map(|work| work.send((batch, commit)));
        sent.expect(GONE).expect(GONE);
    }

    /// Waits until the batch is durable. May be dropped and called again.
    ///
    /// # Errors
    /// [`StoreError`]: it is not durable, and nothing that rests on it may be done.
    ///
    /// # Panics
    /// If the thread has panicked.
    pub async fn finished(&mut self) -> Result<(), StoreError> {
        if self.busy {
            let result = self.done.recv().await.expect(GONE);
            self.busy = false;
            return result;
        }
        Ok(())
    }

    /// The same for a thread that may block.
    ///
    /// # Errors
    /// As [`Writer::finished`].
    ///
    /// # Panics
    /// If the thread has panicked; inside an asynchronous task.
    pub fn wait(&mut self) -> Result<(), StoreError> {
        if self.busy {
            let result = self.done.blocking_recv().expect(GONE);
            self.busy = false;
            return result;
        }
        Ok(())
    }
}

impl Drop for Writer {
    /// Lets what is being written be written, so that the store is closed in order.
    fn drop(&mut self) {
        self.work = None;
        self.done.close();
        if let Some(Err(_)) = self.thread.take().map(JoinHandle::join) {
            tracing::error!("the store's thread panicked");
        }
    }
}
