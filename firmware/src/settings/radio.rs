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
        Security::Wpa2 => "wpa=2\nwpa_key_mgmt=WPA-PSK\nrsn_pairwise=CCMP\nieee80211w=1\n",
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
