//! Updates of the machine, as its owner orders and judges them.

use super::Stand;
use serde_json::Value;
use std::time::{Duration, Instant};

impl Stand {
    /// `turnpike update status`.
    ///
    /// # Errors
    /// Its words.
    pub fn update_status(&self) -> Result<Value, String> {
        self.shell.turnpike("update status")
    }

    /// Begins `turnpike update apply` on the machine and does not wait for its end.
    pub fn begin_update(&self, source: &str) {
        self.shell.must(&format!(
            "rm -f /run/applied; (turnpike update apply {source} >/run/applying 2>&1; echo $? >/run/applied) </dev/null >/dev/null 2>&1 &"
        ));
    }

    /// Waits for the end of [`Stand::begin_update`]; gives its exit status and words.
    ///
    /// # Errors
    /// It did not end in time.
    pub fn update_ended(&mut self, patience: Duration) -> Result<(String, String), String> {
        let status = self.shell.wait("cat /run/applied", patience)?;
        Ok((status.trim().to_owned(), self.shell.must("cat /run/applying")))
    }

    /// Applies an update; gives exit status and words.
    ///
    /// # Errors
    /// It did not end in time.
    pub fn update(&mut self, source: &str) -> Result<(String, String), String> {
        self.begin_update(source);
        let patience = self.machine.board().patience();
        self.update_ended(patience)
    }

    /// The owner restarts the machine, which may end the shell before it answers.
    pub fn restart(&self) {
        let _ = self.shell.run("(sleep 1; reboot) </dev/null >/dev/null 2>&1 &");
    }

    /// Waits until `turnpike update status` is as it has to be.
    ///
    /// # Errors
    /// It is not in time; with what it was.
    pub fn update_becomes(
        &mut self,
        patience: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value, String> {
        let end = Instant::now() + patience;
        loop {
            let status = self.update_status();
            match status {
                Ok(status) if wanted(&status) => return Ok(status),
                _ => self.not_yet(end, &format!("{status:?}"))?,
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}
