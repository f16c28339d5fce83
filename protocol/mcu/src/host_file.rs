//! Text files of the host, over semihosting.

use alloc::{string::String, vec};
use core::ffi::CStr;
use semihosting::{fs::File, io::Read};

/// The whole text of a file in the folder that the emulator was started in; `None` if it cannot be read.
pub fn read(name: &CStr) -> Option<String> {
    let mut file = File::open(name).ok()?;
    let length = usize::try_from(file.metadata().ok()?.len()).ok()?;
    let mut text = vec![0; length];
    file.read_exact(&mut text).ok()?;
    String::from_utf8(text).ok()
}
