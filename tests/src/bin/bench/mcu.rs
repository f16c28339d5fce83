//! What `protocol` takes on the Cortex-M4: by `scripts/mcu.sh`, which replays the golden vectors there.

use std::path::Path;
use std::process::{Command, Stdio};
use turnpike_tests::figure::Figure;

/// Program memory and RAM, as the script reports them.
pub fn mcu() -> Vec<Figure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new(root.join("scripts/mcu.sh"))
        .stderr(Stdio::inherit())
        .output()
        .expect("scripts/mcu.sh");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|l| l.strip_prefix("mcu: ok "));
    let (Some(line), true) = (line, output.status.success()) else {
        panic!("the replay failed:\n{text}")
    };
    let figure = |name: &str, note: &str| {
        let value = line
            .split(' ')
            .find_map(|w| w.strip_prefix(name)?.strip_prefix('='));
        let value: f64 = value
            .and_then(|v| v.parse().ok())
            .unwrap_or_else(|| panic!("no {name} in: {line}"));
        Figure::alone(name, value, "bytes", "report", note)
    };
    vec![
        figure(
            "mcu_text_bytes",
            "code and constants of the replay of all golden vectors, curve library included, on an emulated Cortex-M4",
        ),
        figure(
            "mcu_ram_bytes",
            "statics, and the most heap and stack that the replay used",
        ),
    ]
}
