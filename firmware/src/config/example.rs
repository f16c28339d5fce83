//! The commented file that `turnpike init` writes.

use std::path::Path;

/// A file that says what every key means and what its default is, for this data folder.
pub fn example(data_dir: &Path) -> String {
    let folder = data_dir.display().to_string();
    // TOML's basic strings know these two escapes; control characters have no place in a folder's name.
    let folder = folder.replace('\\', "\\\\").replace('"', "\\\"");
    include_str!("example.toml").replace("@data_dir@", &folder)
}
