//! What hostapd and wpa_supplicant are told.

use super::card::{AccessPoint, Wifi};
use super::hexadecimal;
use crate::gate::InterfaceName;
use std::fmt::{self, Write as _};

/// Digits of a Wi-Fi key, and lengths of a password (IEEE 802.11, annex J.4).
const KEY_DIGITS: usize = 64;
const PASSWORD: std::ops::RangeInclusive<usize> = 8..=63;
/// Channels of the 5 GHz band on which no radar has to be listened for.
const FIVE_GHZ: [u8; 9] = [36, 40, 44, 48, 149, 153, 157, 161, 165];

/// How a network is secured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Security {
    Open,
    /// Encrypted without a password (RFC 8110).
    Owe,
    Wpa2,
    Wpa3,
}

/// A password of Wi-Fi, or the key that is made of one for a network's name.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Password {
    Words(String),
    /// 64 hexadecimal digits.
    Key(String),
}

impl Security {
    pub(super) const CHOICES: [(&'static str, Security); 4] = [
        ("open", Security::Open),
        ("owe", Security::Owe),
        ("wpa2", Security::Wpa2),
        ("wpa3", Security::Wpa3),
    ];
}

impl Password {
    /// `None` if no network can have it.
    pub(super) fn new(text: &str) -> Option<Password> {
        if text.len() == KEY_DIGITS && hexadecimal(text) {
            return Some(Password::Key(text.to_ascii_lowercase()));
        }
        let printable = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        (printable && PASSWORD.contains(&text.len())).then(|| Password::Words(text.to_owned()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(***)")
    }
}

/// A channel that an access point on these boards can use.
pub(super) fn is_channel(number: u8) -> bool {
    (1..=13).contains(&number) || FIVE_GHZ.contains(&number)
}

/// A channel that is not free everywhere.
pub(super) fn channel_needs_country(number: u8) -> bool {
    number > 11
}

/// `hostapd.conf`. Its values reach to the end of the line and know no quotes, so a password stands as it is; names of
/// networks stand in hexadecimal digits.
pub(super) fn hostapd(it: &AccessPoint, interface: &InterfaceName, country: Option<&str>) -> String {
    let mut text = format!(
        "interface={interface}\ndriver=nl80211\nctrl_interface=/run/hostapd\nssid2={}\n",
        digits(&it.ssid)
    );
    if let Some(country) = country {
        text.push_str(&format!("country_code={country}\nieee80211d=1\n"));
    }
    let (mode, more) = if it.channel <= 14 {
        ("g", "")
    } else {
        ("a", "ieee80211ac=1\n")
    };
    text.push_str(&format!(
        "hw_mode={mode}\nchannel={}\nieee80211n=1\n{more}wmm_enabled=1\n",
        it.channel
    ));
    // Guests reach each other through the node or not at all: their bytes are sold, and a neighbour is a stranger.
    text.push_str("ap_isolate=1\nauth_algs=1\n");
    text.push_str(match it.security {
        Security::Open => "",
        Security::Owe => "wpa=2\nwpa_key_mgmt=OWE\nrsn_pairwise=CCMP\nieee80211w=2\n",
        // Without protected management frames: offering them keeps guests out on the radios of these boards
        // (<https://github.com/raspberrypi/linux/issues/3619>).
        Security::Wpa2 => "wpa=2\nwpa_key_mgmt=WPA-PSK\nrsn_pairwise=CCMP\nieee80211w=0\n",
        Security::Wpa3 => "wpa=2\nwpa_key_mgmt=SAE\nrsn_pairwise=CCMP\nieee80211w=2\n",
    });
    match &it.password {
        // sae_password would give some characters a meaning; without it this is SAE's password, too.
        Some(Password::Words(words)) => text.push_str(&format!("wpa_passphrase={words}\n")),
        Some(Password::Key(key)) => text.push_str(&format!("wpa_psk={key}\n")),
        None => {}
    }
    text
}

/// `wpa_supplicant.conf`. A text in quotes reaches to the last quote of its line, and nothing in it is escaped.
pub(super) fn wpa_supplicant(it: &Wifi, country: Option<&str>) -> String {
    let mut text = String::from("ctrl_interface=/run/wpa_supplicant\nupdate_config=0\n");
    if let Some(country) = country {
        text.push_str(&format!("country={country}\n"));
    }
    text.push_str(&format!("network={{\n\tssid={}\n", digits(&it.ssid)));
    if it.hidden {
        text.push_str("\tscan_ssid=1\n");
    }
    let key = matches!(it.password, Some(Password::Key(_)));
    text.push_str(match it.security {
        Security::Open => "\tkey_mgmt=NONE\n",
        Security::Owe => "\tkey_mgmt=OWE\n\tieee80211w=2\n",
        // The key alone cannot do SAE.
        Security::Wpa2 if key => "\tkey_mgmt=WPA-PSK WPA-PSK-SHA256\n\tieee80211w=1\n",
        Security::Wpa2 => "\tkey_mgmt=WPA-PSK WPA-PSK-SHA256 SAE\n\tieee80211w=1\n",
        Security::Wpa3 => "\tkey_mgmt=SAE\n\tieee80211w=2\n",
    });
    match &it.password {
        Some(Password::Words(words)) => text.push_str(&format!("\tpsk=\"{words}\"\n")),
        Some(Password::Key(key)) => text.push_str(&format!("\tpsk={key}\n")),
        None => {}
    }
    text.push_str("}\n");
    text
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// Passwords of which each has something that a file could take for its own.
    const WORDS: [&str; 8] = [
        "abc def gh",
        " spaces at both ends ",
        "a\"b\"c\"d\"",
        "\"quoted all over\"",
        "# no comment # at all",
        "back\\slash\\n|mac=00|id=x",
        "12345678",
        "ssid=evil}network={",
    ];

    fn program(name: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
        folders
            .map(|folder| folder.join(name))
            .find(|path| path.is_file())
    }

    /// What the program says about a file before it finds that there is no such interface.
    fn said(program: &Path, before: &[&str], text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("its.conf");
        std::fs::write(&file, text).unwrap();
        let output = Command::new(program).args(before).arg(&file).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    fn hex(bytes: &[u8]) -> String {
        let pairs: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        pairs.join(" ")
    }

    #[test]
    fn wpa_supplicant_reads_what_was_meant() {
        let Some(program) = program("wpa_supplicant") else {
            println!("skipped: no wpa_supplicant, so its file was not judged");
            return;
        };
        let read = |text: &str| {
            said(
                &program,
                &["-K", "-dd", "-Dwired", "-i", "turnpike-none", "-c"],
                text,
            )
        };
        let broken = read("network={\n\tpsk=\"short\"\n}\n");
        assert!(
            broken.contains("Failed to read or parse configuration"),
            "{broken}"
        );
        let wifi = |security, password| Wifi {
            ssid: b"Caf\xc3\xa9 \"x\" # \xff".to_vec(),
            password,
            security,
            hidden: true,
            interface: None,
        };
        let mut files: Vec<_> = WORDS
            .iter()
            .flat_map(|words| {
                [Security::Wpa2, Security::Wpa3].map(|security| (security, Password::new(words)))
            })
            .collect();
        files.push((Security::Wpa2, Password::new(&"aB".repeat(32))));
        files.push((Security::Open, None));
        files.push((Security::Owe, None));
        for (security, password) in files {
            let said = read(&wpa_supplicant(&wifi(security, password.clone()), Some("DE")));
            assert!(
                !said.contains("Line ") || !said.contains("Failed to read"),
                "{security:?}: {said}"
            );
            assert!(
                said.contains("country='DE'") && said.contains("scan_ssid=1"),
                "{said}"
            );
            assert!(said.contains(&hex(b"Caf\xc3\xa9 \"x\" #")), "{said}");
            match password {
                // Hexadecimal beside the characters, sixteen in a line.
                Some(Password::Words(words)) => {
                    let start = &words.as_bytes()[..words.len().min(16)];
                    let line = format!("PSK (ASCII passphrase) - hexdump_ascii(len={})", words.len());
                    assert!(
                        said.contains(&line) && said.contains(&hex(start)),
                        "{words}: {said}"
                    );
                }
                Some(Password::Key(_)) => {
                    let line = format!("PSK - hexdump(len=32): {}", hex(&[0xab; 32]));
                    assert!(said.contains(&line), "{said}");
                }
                None => assert!(!said.contains("PSK"), "{said}"),
            }
        }
    }

    #[test]
    fn hostapd_reads_every_line() {
        let Some(program) = program("hostapd") else {
            println!("skipped: no hostapd, so its file was not judged");
            return;
        };
        let interface: InterfaceName = "turnpike-none".parse().unwrap();
        let mut offers: Vec<_> = WORDS
            .iter()
            .flat_map(|words| {
                [Security::Wpa2, Security::Wpa3].map(|security| (security, Password::new(words), 6))
            })
            .collect();
        offers.push((Security::Wpa2, Password::new(&"aB".repeat(32)), 13));
        offers.push((Security::Open, None, 1));
        offers.push((Security::Owe, None, 36));
        let mut judged = 0;
        for (security, password, channel) in offers {
            let offer = AccessPoint {
                interface: None,
                ssid: b"Caf\xc3\xa9 \"x\" # \xff".to_vec(),
                channel,
                security,
                password,
            };
            let text = hostapd(&offer, &interface, Some("DE"));
            let heard = said(&program, &[], &text);
            assert!(
                !heard.contains("Line ") && !heard.contains("errors found"),
                "{text}\n{heard}"
            );
            // It stops at the radio, not before.
            assert!(heard.contains("nl80211"), "{heard}");
            // With a value that it does not take it says so.
            let heard = said(&program, &[], &text.replace("channel=", "channel=x\nchanel="));
            assert!(heard.contains("errors found in configuration file"), "{heard}");
            judged += 1;
        }
        assert_eq!(judged, 2 * WORDS.len() + 3);
    }

    #[test]
    fn passwords_have_their_length_and_letters() {
        for good in WORDS
            .iter()
            .map(|words| (*words).to_owned())
            .chain(["x".repeat(63), "0f".repeat(32)])
        {
            assert!(Password::new(&good).is_some(), "{good}");
        }
        for bad in [
            "",
            "1234567",
            "caf\u{e9} caf\u{e9}",
            "1234567\n",
            "1234567\t",
            &"x".repeat(64),
            &"x".repeat(65),
        ] {
            assert!(Password::new(bad).is_none(), "{bad}");
        }
    }
}
