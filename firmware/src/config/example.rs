//! The commented file that `turnpike init` writes.

use crate::chain::ChainName;
use std::path::Path;

/// A file that says what every key means and what its default is, for this data folder.
pub fn example(data_dir: &Path) -> String {
    example_on(ChainName::Bitcoin, data_dir)
}

/// The same for a node on this chain.
pub fn example_on(chain: ChainName, data_dir: &Path) -> String {
    let folder = data_dir.display().to_string();
    // TOML's basic strings know these two escapes; control characters have no place in a folder's name.
    let folder = folder.replace('\\', "\\\\").replace('"', "\\\"");
    let text = include_str!("example.toml").replace("@data_dir@", &folder);
    match chain {
        ChainName::Bitcoin => text,
        ChainName::Play => text
            .replace("backend = \"bitcoind\"", "backend = \"play\"")
            .replace(
                "#url = \"http://127.0.0.1:8332\"",
                "url = \"http://127.0.0.1:18555\"",
            ),
        test => text.replace("#network = \"mainnet\"", &format!("network = \"{test}\"")),
    }
}
