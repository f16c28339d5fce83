//! The first inputs of a target, written to a folder before libFuzzer reads it.

use std::path::Path;

/// Names the folder; without it nothing is written.
const FOLDER: &str = "TURNPIKE_FUZZ_SEEDS";

/// Writes one file per seed into the folder that the environment names.
///
/// # Panics
/// When the folder cannot be written: there is nobody else to tell.
pub fn write(seeds: &[Vec<u8>]) {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let folder = Path::new(&folder);
    std::fs::create_dir_all(folder).expect("the folder of seeds can be made");
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:03}")), seed).expect("a seed can be written");
    }
}
