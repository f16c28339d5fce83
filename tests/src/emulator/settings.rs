//! What an owner writes into `turnpike.toml` on the boot partition.

use std::fmt::Write;

/// A node's settings (settings.md).
#[derive(Clone, Debug)]
pub struct Settings {
    key: String,
    chain: Option<String>,
    relay: Option<String>,
    more: String,
}

impl Settings {
    /// A node that is reached with this public key, and sells nothing.
    pub fn reachable(key: &str) -> Settings {
        Settings {
            key: key.to_owned(),
            chain: None,
            relay: None,
            more: String::new(),
        }
    }

    /// Where the play chain is, with the user and the password of its cookie.
    pub fn chain(mut self, url: &str, cookie: &str) -> Settings {
        let (user, password) = cookie.split_once(':').expect("a cookie is USER:PASSWORD");
        self.chain = Some(format!(
            "[chain]\nbackend = \"play\"\nnetwork = \"regtest\"\nurl = \"{url}\"\nuser = \"{user}\"\npassword = \"{password}\"\npoll = \"1 s\"\n"
        ));
        self
    }

    /// Sells on `guest`, brings it out at `uplink`, for `price` millisatoshi per MiB either way.
    pub fn sell(mut self, guest: &str, uplink: &str, price: u64) -> Settings {
        self.relay = Some(format!(
            "[relay]\nenabled = true\nguest_interface = \"{guest}\"\nuplink_interface = \"{uplink}\"\n\
             [price]\nup = \"{price} msat/MiB\"\ndown = \"{price} msat/MiB\"\n"
        ));
        self
    }

    /// More lines at the end.
    pub fn more(mut self, text: &str) -> Settings {
        self.more.push_str(text);
        self
    }

    /// The file.
    pub fn text(&self) -> String {
        let mut text = format!(
            "[system]\nhostname = \"card-test\"\nssh_keys = [\"{}\"]\n",
            self.key
        );
        for section in [&self.chain, &self.relay].into_iter().flatten() {
            let _ = writeln!(text, "\n{section}");
        }
        text + &self.more
    }
}
