//! The keys of Raspberry Pi Imager's file, under the names that they have in `turnpike.toml`.
//! The format: <https://github.com/raspberrypi/rpi-preseed>, `schema/rpi-preseed.schema`; `custom.toml`: `init_config` of
//! <https://github.com/RPi-Distro/raspberrypi-sys-mods>.

use super::entry::{Entry, Value};
use super::finding::{Finding, Weight};
use super::hexadecimal;
use crate::config::suggestion;

/// Its sections, with the keys that mean something here.
const USED: [(&str, &[&str]); 4] = [
    ("system", &["hostname"]),
    ("ssh", &["enabled", "authorized_keys"]),
    (
        "wlan",
        &[
            "ssid",
            "ssid_hex",
            "password",
            "password_encrypted",
            "hidden",
            "country",
            "key_mgmt",
        ],
    ),
    ("mesh", &[]),
];
/// Keys of used sections, and whole sections, that the format has and that mean nothing here.
const UNUSED: [(&str, &str); 4] = [
    (
        "user",
        "this node has no passwords and no account but root's: SSH is by key",
    ),
    ("ssh.password_authentication", "SSH is by key only"),
    (
        "ssh.ssh_import_id",
        "keys are not fetched: write them into authorized_keys",
    ),
    ("connect", "this node does not run Raspberry Pi Connect"),
];
const UNUSED_SECTIONS: [&str; 10] = [
    "locale",
    "time",
    "interfaces",
    "ethernet",
    "packages",
    "ca_certificates",
    "mounts",
    "boot",
    "runcmd",
    "debug",
];
/// Length of a Wi-Fi key in hexadecimal digits.
const KEY_DIGITS: usize = 64;

/// Entries of `turnpike.toml` that say the same, and what is to be said about the others.
pub(super) fn translate(entries: Vec<Entry>) -> (Vec<Entry>, Vec<Finding>) {
    let mut findings = Vec::new();
    let ssh_off = entries
        .iter()
        .any(|entry| entry.is("ssh", "enabled") && entry.value == Value::Flag(false));
    let encrypted = entries
        .iter()
        .any(|entry| entry.is("wlan", "password_encrypted") && entry.value == Value::Flag(true));
    let mut told = Vec::new();
    let mut translated = Vec::new();
    for mut entry in entries {
        let dotted = entry.dotted().to_owned();
        let top = dotted.split('.').next().unwrap_or_default().to_owned();
        if dotted == "config_version" {
            findings.extend(version(&entry));
            continue;
        }
        if let Some(below) = entry.section.strip_prefix("mesh.") {
            entry.section = below.to_owned();
            translated.push(entry);
            continue;
        }
        let unused = UNUSED.iter().find(|(name, _)| *name == dotted || *name == top);
        let unused = unused.map(|(_, why)| *why).or_else(|| {
            UNUSED_SECTIONS
                .contains(&top.as_str())
                .then_some("this means nothing on this node")
        });
        if let Some(why) = unused {
            // A section is spoken of once.
            let name = if UNUSED.iter().any(|(name, _)| *name == dotted) {
                &dotted
            } else {
                &top
            };
            if !told.contains(name) {
                findings.push(entry.finding(Weight::Note, "not used", why));
                told.push(name.clone());
            }
            continue;
        }
        let Some((_, keys)) = USED.iter().find(|(name, _)| *name == top) else {
            if entry.is_header() || entry.section.is_empty() {
                let known: Vec<_> = USED.iter().map(|(name, _)| *name).collect();
                findings.push(entry.finding(
                    Weight::Odd,
                    "there is no such section",
                    suggestion(&top, &known),
                ));
            }
            continue;
        };
        if entry.section.is_empty() {
            let remedy = format!("write [{top}] on a line of its own and its keys below");
            let finding = entry.finding(Weight::Wrong, "this is a section, not a key", remedy);
            findings.push(finding.in_section(owned(&top)));
            continue;
        }
        if entry.is_header() {
            continue;
        }
        if top == "mesh" {
            let remedy = "below [mesh.SECTION] stand the keys of that section of turnpike.toml";
            findings.push(entry.finding(Weight::Odd, "there is no such key", remedy));
            continue;
        }
        if !keys.contains(&entry.key.as_str()) {
            findings.push(entry.finding(Weight::Odd, "there is no such key", suggestion(&entry.key, keys)));
            continue;
        }
        entry.section = owned(&top).to_owned();
        if let Some(finding) = wrong(&entry, &top, encrypted) {
            findings.push(finding);
            continue;
        }
        match (top.as_str(), entry.key.as_str()) {
            ("ssh", "authorized_keys") if ssh_off => findings.push(entry.finding(
                Weight::Note,
                "not used, since ssh.enabled is false",
                "write enabled = true to reach the node by SSH",
            )),
            ("ssh", "authorized_keys") => "ssh_keys".clone_into(&mut entry.key),
            ("wlan", "country") => "system".clone_into(&mut entry.section),
            ("wlan", "key_mgmt") => {
                "security".clone_into(&mut entry.key);
                if let Value::Text(word) = &mut entry.value {
                    *word = security(word).unwrap_or_default().to_owned();
                }
            }
            _ => {}
        }
        // What only says how to read another key is read now.
        if !["enabled", "password_encrypted", "authorized_keys"].contains(&entry.key.as_str()) {
            translated.push(entry);
        }
    }
    (translated, findings)
}

/// The section of `turnpike.toml` that has the keys of this one.
fn owned(section: &str) -> &str {
    match section {
        "wlan" => "wifi",
        "ssh" => "system",
        other => other,
    }
}

/// What this file's format forbids and `turnpike.toml`'s does not know.
fn wrong(entry: &Entry, top: &str, encrypted: bool) -> Option<Finding> {
    let is = |key| top == "wlan" && entry.key == key;
    let flag = top == "ssh" && entry.key == "enabled" || is("password_encrypted");
    if flag && !matches!(entry.value, Value::Flag(_)) {
        let remedy = format!("write {} = true", entry.key);
        return Some(entry.finding(Weight::Wrong, "true or false is wanted", remedy));
    }
    if is("password") && encrypted && !entry.is_moved() {
        let key = matches!(&entry.value, Value::Text(text) if text.len() == KEY_DIGITS && hexadecimal(text));
        if !key {
            let what = "password_encrypted is true, and this is not the key that is made of a password";
            let remedy = "write 64 hexadecimal digits, or password_encrypted = false";
            return Some(entry.finding(Weight::Wrong, what, remedy));
        }
    }
    if is("key_mgmt") {
        let known = matches!(&entry.value, Value::Text(word) if security(word).is_some());
        if !known {
            let remedy = "use one of none, owe, wpa-psk, sae";
            return Some(entry.finding(Weight::Wrong, "this is none of the choices", remedy));
        }
    }
    None
}

fn security(word: &str) -> Option<&'static str> {
    match word {
        "none" => Some("open"),
        "owe" => Some("owe"),
        "wpa-psk" => Some("wpa2"),
        "sae" => Some("wpa3"),
        _ => None,
    }
}

/// Version 1 of either format.
fn version(entry: &Entry) -> Option<Finding> {
    let known = match &entry.value {
        Value::Text(text) => text == "1" || text.starts_with("1."),
        Value::Whole(number) => *number == 1,
        _ => false,
    };
    let what = "this is a later format than this firmware knows";
    let remedy = "write config_version = \"1.0\", or the same settings into turnpike.toml";
    (!known).then(|| entry.finding(Weight::Wrong, what, remedy))
}
