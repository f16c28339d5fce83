//! Where the configuration file is, for the daemon and the command line alike.

use std::path::{Path, PathBuf};

/// The system's configuration.
pub const SYSTEM: &str = "/etc/turnpike/turnpike.toml";
/// Name of the file in the user's folder.
const FILE: &str = "turnpike.toml";

/// The configuration file: the one that was named (`--config`, else `TURNPIKE_CONFIG`), else the system's, else the
/// user's. Where none of these is there, the one that `turnpike init` makes: root's is the system's.
pub fn config_file(named: Option<&Path>) -> PathBuf {
    let user = user_folder("XDG_CONFIG_HOME", ".config").map(|folder| folder.join(FILE));
    search(named, Path::new(SYSTEM), user, is_root())
}

/// The user's folder of one kind: below what `variable` names, else below the home folder; `None` without either.
pub fn user_folder(variable: &str, below_home: &str) -> Option<PathBuf> {
    let named = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    let folder = named(variable).or_else(|| named("HOME").map(|home| home.join(below_home)))?;
    Some(folder.join("turnpike"))
}

/// Whether this program runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn search(named: Option<&Path>, system: &Path, user: Option<PathBuf>, root: bool) -> PathBuf {
    match (named, user) {
        (Some(named), _) => named.to_owned(),
        (None, Some(user)) if !system.exists() && (user.exists() || !root) => user,
        (None, _) => system.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_file_comes_first_then_the_systems_then_the_users() {
        let folder = tempfile::tempdir().unwrap();
        let (system, user) = (folder.path().join("etc.toml"), folder.path().join("user.toml"));
        let find = |named, root| search(named, &system, Some(user.clone()), root);
        // Neither is there: what `init` makes.
        assert_eq!(
            (find(None, true), find(None, false)),
            (system.clone(), user.clone())
        );
        assert_eq!(search(None, &system, None, false), system);
        std::fs::write(&user, "").unwrap();
        assert_eq!(
            (find(None, true), find(None, false)),
            (user.clone(), user.clone())
        );
        std::fs::write(&system, "").unwrap();
        assert_eq!(
            (find(None, true), find(None, false)),
            (system.clone(), system.clone())
        );
        // A name is taken at its word, whether the file is there or not.
        let named = folder.path().join("other.toml");
        assert_eq!(find(Some(&named), false), named);
    }
}
