//! The owner's way in: OpenSSH with a key that the test made.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for one command's answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A key pair, the host keys seen so far, and where the machine's port 22 is.
///
/// The machine's key is taken at the first meeting and has to be the same ever after.
pub struct Shell {
    folder: PathBuf,
    port: u16,
}

impl Shell {
    /// Makes a key pair in a folder.
    pub fn new(folder: &Path, port: u16) -> Shell {
        let shell = Shell {
            folder: folder.to_owned(),
            port,
        };
        let output = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "owner", "-f"])
            .arg(shell.key())
            .stdin(Stdio::null())
            .output();
        let output = output.expect("ssh-keygen from openssh-client");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        shell
    }

    /// The public key's line.
    pub fn public_key(&self) -> String {
        let line = fs::read_to_string(self.key().with_extension("pub"));
        line.expect("the public key").trim().to_owned()
    }

    /// The port on 127.0.0.1 that leads to the machine's port 22.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs a command line on the machine.
    ///
    /// # Errors
    /// What stood on standard error, when it cannot be reached or the command fails.
    pub fn run(&self, line: &str) -> Result<String, String> {
        let output = self.command(line).output().expect("ssh from openssh-client");
        text(line, &output)
    }

    /// Runs what must succeed.
    ///
    /// # Panics
    /// It did not.
    pub fn must(&self, line: &str) -> String {
        self.run(line).unwrap_or_else(|e| panic!("over SSH: {line}: {e}"))
    }

    /// The machine's own `turnpike` with `--json`.
    ///
    /// # Errors
    /// Its words.
    pub fn turnpike(&self, words: &str) -> Result<Value, String> {
        let line = format!("turnpike --config /run/turnpike/turnpike.toml --json {words}");
        let text = self.run(&line)?;
        let last = text.trim().lines().last().unwrap_or("null");
        serde_json::from_str(&text)
            .or_else(|_| serde_json::from_str(last))
            .map_err(|e| format!("{e}: {text}"))
    }

    /// Waits until a command succeeds, and gives what it printed.
    ///
    /// # Errors
    /// Its last words when the time is over.
    pub fn wait(&self, line: &str, patience: Duration) -> Result<String, String> {
        let end = Instant::now() + patience;
        loop {
            match self.run(line) {
                Ok(text) => return Ok(text),
                Err(words) if Instant::now() > end => return Err(words),
                Err(_) => std::thread::sleep(Duration::from_millis(500)),
            }
        }
    }

    /// Forgets the machine's key: another card is in it.
    pub fn forget_host(&self) {
        let _ = fs::remove_file(self.folder.join("known_hosts"));
    }

    fn key(&self) -> PathBuf {
        self.folder.join("owner")
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("timeout");
        command
            .arg(PATIENCE.as_secs().to_string())
            .args(["ssh", "-F", "none", "-i"]);
        command.arg(self.key()).args(["-p", &self.port.to_string()]);
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=accept-new",
            "PasswordAuthentication=no",
            "ConnectTimeout=10",
            "ServerAliveInterval=5",
            "LogLevel=ERROR",
        ] {
            command.arg("-o").arg(option);
        }
        command
            .arg("-o")
            .arg(format!(
                "UserKnownHostsFile={}",
                self.folder.join("known_hosts").display()
            ))
            .args(["root@127.0.0.1", line])
            .stdin(Stdio::null());
        command
    }
}

fn text(line: &str, output: &Output) -> Result<String, String> {
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(out);
    }
    let err = String::from_utf8_lossy(&output.stderr);
    Err(format!("{line}: {}: {out}{err}", output.status))
}
