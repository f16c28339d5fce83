//! The sections that only a card has.

use super::entry::{Entry, Value};
use super::finding::{Finding, Weight};
use super::radio::{Password, Security, channel_needs_country, is_channel};
use super::{hexadecimal, key};
use crate::config::suggestion;
use crate::gate::InterfaceName;
use crate::update::Keys;

/// Longest host name that Linux takes (`HOST_NAME_MAX`), and longest part of one (RFC 1123).
const MAX_HOSTNAME: usize = 64;
const MAX_LABEL: usize = 63;
/// Longest name of a network (IEEE 802.11).
const MAX_SSID: usize = 32;
/// Most keys of one kind.
const MAX_KEYS: usize = 64;
/// Channel of an access point: in the middle of the band that every board and guest has.
const DEFAULT_CHANNEL: u8 = 6;

/// `[system]`.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct SystemSettings {
    pub hostname: Option<String>,
    pub ssh_keys: Vec<String>,
    pub country: Option<String>,
}

/// `[wifi]`: the network to reach the world through.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Wifi {
    pub ssid: Vec<u8>,
    pub password: Option<Password>,
    pub security: Security,
    pub hidden: bool,
    pub interface: Option<InterfaceName>,
}

/// `[access_point]`.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct AccessPoint {
    pub interface: Option<InterfaceName>,
    pub ssid: Vec<u8>,
    pub channel: u8,
    pub security: Security,
    pub password: Option<Password>,
}

/// `[update]`.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Update {
    pub keys: Vec<String>,
    pub threshold: usize,
    pub serve: Option<bool>,
}

/// All of them.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Card {
    pub system: SystemSettings,
    pub wifi: Option<Wifi>,
    pub access_point: Option<AccessPoint>,
    pub update: Option<Update>,
}

/// Its sections.
pub(super) const SECTIONS: [&str; 4] = ["system", "wifi", "access_point", "update"];

impl Default for AccessPoint {
    fn default() -> Self {
        AccessPoint {
            interface: None,
            ssid: b"turnpike".to_vec(),
            channel: DEFAULT_CHANNEL,
            security: Security::Open,
            password: None,
        }
    }
}

/// Reads them; whatever is wrong is left out and said.
pub(super) fn read(entries: &[Entry]) -> (Card, Vec<Finding>) {
    let mut findings = Vec::new();
    let section = |name| Section {
        name,
        entries,
        findings: Vec::new(),
        known: Vec::new(),
    };
    let mut read = Card::default();
    let mut system = section("system");
    read.system = system.system();
    findings.extend(system.finish());
    let country = read.system.country.is_some();
    let mut wifi = section("wifi");
    read.wifi = wifi.wifi();
    findings.extend(wifi.finish());
    let mut access_point = section("access_point");
    read.access_point = access_point.access_point(country);
    findings.extend(access_point.finish());
    let mut update = section("update");
    read.update = update.update();
    findings.extend(update.finish());
    (read, findings)
}

struct Section<'e> {
    name: &'static str,
    entries: &'e [Entry],
    findings: Vec<Finding>,
    known: Vec<&'static str>,
}

impl<'e> Section<'e> {
    fn entry(&mut self, key: &'static str) -> Option<&'e Entry> {
        self.known.push(key);
        self.entries.iter().find(|entry| entry.is(self.name, key))
    }

    /// A key of the section: a heading alone says nothing.
    fn here(&self) -> Option<&'e Entry> {
        let here = |entry: &&Entry| entry.section == self.name && !entry.is_header();
        self.entries.iter().find(here)
    }

    fn wrong(&mut self, entry: &Entry, what: impl ToString, remedy: impl ToString) {
        self.findings.push(entry.finding(Weight::Wrong, what, remedy));
    }

    fn text(&mut self, key: &'static str) -> Option<(&'e Entry, &'e str)> {
        let entry = self.entry(key)?;
        if let Value::Text(text) = &entry.value {
            return Some((entry, text));
        }
        let what = "a text in quotes is wanted";
        self.wrong(entry, what, format!("write {} = \"…\"", entry.key));
        None
    }

    fn flag(&mut self, key: &'static str) -> Option<bool> {
        let entry = self.entry(key)?;
        if let Value::Flag(flag) = entry.value {
            return Some(flag);
        }
        self.wrong(entry, "true or false is wanted", format!("write {key} = true"));
        None
    }

    fn number(&mut self, key: &'static str, sample: &str) -> Option<(&'e Entry, i64)> {
        let entry = self.entry(key)?;
        if let Value::Whole(number) = entry.value {
            return Some((entry, number));
        }
        self.wrong(
            entry,
            "a whole number is wanted",
            format!("write {key} = {sample}"),
        );
        None
    }

    fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let (entry, text) = self.text(key)?;
        let found = choices.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            let what = format!("\"{text}\" is none of the choices");
            self.wrong(entry, what, suggestion(text, &words));
        }
        found.map(|(_, value)| *value)
    }

    fn interface(&mut self) -> Option<InterfaceName> {
        let (entry, text) = self.text("interface")?;
        match text.parse() {
            Ok(name) => Some(name),
            Err(error) => {
                self.wrong(entry, "not the name of an interface", error);
                None
            }
        }
    }

    fn finish(mut self) -> Vec<Finding> {
        for entry in self.entries {
            let unknown = !entry.is_header() && !self.known.contains(&entry.key.as_str());
            if entry.section == self.name && unknown {
                let remedy = suggestion(&entry.key, &self.known);
                self.findings
                    .push(entry.finding(Weight::Odd, "there is no such key", remedy));
            }
        }
        self.findings
    }

    fn system(&mut self) -> SystemSettings {
        let mut hostname = None;
        if let Some((entry, text)) = self.text("hostname") {
            if is_hostname(text) {
                hostname = Some(text.to_owned());
            } else {
                let remedy = "use letters, digits and hyphens, such as \"node-7\"";
                self.wrong(entry, "this is no name of a host", remedy);
            }
        }
        let mut country = None;
        if let Some((entry, text)) = self.text("country") {
            if text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
                country = Some(text.to_ascii_uppercase());
            } else {
                self.wrong(
                    entry,
                    "this is no country",
                    "write its two letters, such as \"DE\"",
                );
            }
        }
        SystemSettings {
            hostname,
            ssh_keys: self.ssh_keys(),
            country,
        }
    }

    /// A bad line costs no owner the door: the good ones count.
    fn ssh_keys(&mut self) -> Vec<String> {
        self.known.push("ssh_keys");
        let entries = self.entries;
        for entry in entries.iter().filter(|entry| entry.is("system", "ssh_keys")) {
            let keys = self.ssh_keys_of(entry);
            if !keys.is_empty() {
                return keys;
            }
        }
        Vec::new()
    }

    fn ssh_keys_of(&mut self, entry: &Entry) -> Vec<String> {
        let Some(texts) = entry.texts() else {
            let remedy = format!("write {} = [\"ssh-ed25519 …\"]", entry.key);
            self.wrong(entry, "a list of texts is wanted", remedy);
            return Vec::new();
        };
        let lines = texts.iter().flat_map(|text| text.lines());
        let lines = lines
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut keys: Vec<String> = Vec::new();
        for (at, line) in lines.enumerate() {
            match key::ssh(line) {
                Ok(key) if keys.contains(&key) => {}
                Ok(key) if keys.len() < MAX_KEYS => keys.push(key),
                Ok(_) => {
                    let what = format!(
                        "key {}: this is one more than the {MAX_KEYS} that are read",
                        at + 1
                    );
                    self.findings
                        .push(entry.finding(Weight::Odd, what, "remove some"));
                    break;
                }
                Err((what, remedy)) => {
                    let what = format!("key {}: {what}", at + 1);
                    self.findings.push(entry.finding(Weight::Odd, what, remedy));
                }
            }
        }
        keys
    }

    fn ssid(&mut self, key: &'static str) -> Option<Vec<u8>> {
        let (entry, text) = self.text(key)?;
        if (1..=MAX_SSID).contains(&text.len()) {
            return Some(text.as_bytes().to_vec());
        }
        let what = format!(
            "a network's name has 1 to {MAX_SSID} bytes, this has {}",
            text.len()
        );
        self.wrong(entry, what, "write the name as the access point has it");
        None
    }

    fn wifi(&mut self) -> Option<Wifi> {
        let here = self.here();
        let plain = self.ssid("ssid");
        let digits = self.text("ssid_hex").and_then(|(entry, text)| {
            let bytes = bytes(text).filter(|bytes| (1..=MAX_SSID).contains(&bytes.len()));
            if bytes.is_none() {
                self.wrong(
                    entry,
                    "this is no network's name",
                    "write 2 to 64 hexadecimal digits",
                );
            }
            bytes
        });
        let password = self.password();
        let named = self.choice("security", &Security::CHOICES);
        let hidden = self.flag("hidden").unwrap_or(false);
        let interface = self.interface();
        let security = named.unwrap_or(if password.is_some() {
            Security::Wpa2
        } else {
            Security::Open
        });
        let ssid = digits.or(plain);
        // What is missing is said unless something else is wrong already.
        let (Some(here), true) = (here, self.findings.is_empty()) else {
            return None;
        };
        let Some(ssid) = ssid else {
            self.wrong(
                here,
                "the network's name is missing",
                "add ssid = \"…\" under [wifi]",
            );
            return None;
        };
        self.fits(here, security, &password)?;
        Some(Wifi {
            ssid,
            password,
            security,
            hidden,
            interface,
        })
    }

    fn access_point(&mut self, country: bool) -> Option<AccessPoint> {
        let defaults = AccessPoint::default();
        let here = self.here()?;
        let interface = self.interface();
        let ssid = self.ssid("ssid").unwrap_or(defaults.ssid);
        let mut channel = defaults.channel;
        if let Some((entry, number)) = self.number("channel", "6") {
            match u8::try_from(number).ok().filter(|number| is_channel(*number)) {
                Some(number) if country || !channel_needs_country(number) => channel = number,
                Some(_) => {
                    let remedy = "add country = \"…\" under [system], or use a channel from 1 to 11";
                    self.wrong(entry, "this channel is allowed in some countries only", remedy);
                }
                None => {
                    let remedy = "use 1 to 13, 36, 40, 44, 48, 149, 153, 157, 161 or 165";
                    self.wrong(entry, "an access point cannot use this channel", remedy);
                }
            }
        }
        let password = self.password();
        let named = self.choice("security", &Security::CHOICES);
        let security = named.unwrap_or(if password.is_some() {
            Security::Wpa2
        } else {
            Security::Open
        });
        if self.findings.is_empty() {
            self.fits(here, security, &password)?;
        }
        Some(AccessPoint {
            interface,
            ssid,
            channel,
            security,
            password,
        })
    }

    fn password(&mut self) -> Option<Password> {
        let (entry, text) = self.text("password")?;
        let password = Password::new(text);
        if password.is_none() {
            let what = "a password of Wi-Fi has 8 to 63 printable ASCII characters";
            self.wrong(
                entry,
                what,
                "write another one, or its key as 64 hexadecimal digits",
            );
        }
        password
    }

    /// The password is one that this kind of network has.
    fn fits(&mut self, here: &Entry, security: Security, password: &Option<Password>) -> Option<()> {
        let secured = matches!(security, Security::Wpa2 | Security::Wpa3);
        let (what, remedy) = match password {
            None if secured => ("a network with a password needs one", "add password = \"…\""),
            Some(_) if !secured => (
                "a network without a password has one here",
                "remove it, or write security = \"wpa2\" or \"wpa3\"",
            ),
            Some(Password::Key(_)) if security == Security::Wpa3 => (
                "WPA3 needs the password itself, not the key that is made of it",
                "write the password, or security = \"wpa2\"",
            ),
            _ => return Some(()),
        };
        let at = self
            .entries
            .iter()
            .find(|entry| entry.is(self.name, "security") || entry.is(self.name, "password"));
        self.wrong(at.unwrap_or(here), what, remedy);
        None
    }

    fn update(&mut self) -> Option<Update> {
        self.here()?;
        let named = self.number("threshold", "2");
        let mut update = Update {
            serve: self.flag("serve"),
            ..Update::default()
        };
        if let Some(entry) = self.entry("keys") {
            let texts = entry.texts().unwrap_or_default();
            update.keys = texts.iter().map(|text| text.trim().to_owned()).collect();
            let threshold = named.map(|(_, number)| usize::try_from(number).unwrap_or(0));
            // The reader of updates judges them.
            match Keys::new(&update.keys, threshold) {
                Ok(keys) => update.threshold = keys.threshold(),
                Err(what) => {
                    self.wrong(
                        entry,
                        what,
                        "write keys = [\"RW…\"] and how many of them have to sign as threshold",
                    );
                }
            }
        } else if let Some((entry, _)) = named {
            self.wrong(entry, "there are no keys", "write keys = [\"RW…\"] beside it");
        }
        Some(update)
    }
}

/// RFC 1123.
fn is_hostname(text: &str) -> bool {
    let label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= MAX_HOSTNAME && text.split('.').all(label)
}

/// What pairs of hexadecimal digits say.
fn bytes(text: &str) -> Option<Vec<u8>> {
    if text.len() % 2 != 0 || !hexadecimal(text) {
        return None;
    }
    let pairs = text.as_bytes().chunks_exact(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}
