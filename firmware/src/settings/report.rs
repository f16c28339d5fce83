//! `REPORT.txt`: what the node made of the owner's files, for somebody who has the card in a reader.

use super::choice::{Choice, Settings, Version};
use super::finding::{Finding, Weight};
use super::output::HOSTNAME;
use super::source::Kind;
use crate::card::Problem;
use std::fmt::Write as _;

/// The report. No time is in it: the same settings give the same text.
pub(super) fn text(choice: &Choice, others: &[Problem]) -> String {
    let mut text = String::from("What this node made of the settings on this partition.\n\n");
    for kind in Kind::ALL {
        let _ = writeln!(text, "{}", used(kind, choice.versions[kind as usize]));
    }
    text.push('\n');
    text.push_str(&state(&choice.settings));
    let groups: [(&str, &dyn Fn(Weight) -> bool); 2] = [
        ("To correct", &|weight| weight != Weight::Note),
        ("For your information", &|weight| weight == Weight::Note),
    ];
    for (title, of) in groups {
        let lines: Vec<&Finding> = choice.findings.iter().filter(|it| of(it.weight)).collect();
        if !lines.is_empty() {
            let _ = writeln!(text, "\n{title}:");
        }
        for line in lines {
            let _ = writeln!(text, "- {line}");
        }
    }
    if !others.is_empty() {
        text.push_str("\nOther problems of this node:\n");
    }
    for problem in others {
        let _ = writeln!(text, "- {}: {}", problem.code, problem.text);
    }
    text.push_str(&next(&choice.settings));
    // Windows' older editors know no other end of a line.
    text.replace('\n', "\r\n")
}

fn used(kind: Kind, version: Version) -> String {
    let name = kind.stored_name();
    match (kind, version) {
        (_, Version::Current) => format!("{name}: used as it is here"),
        (_, Version::LastGood) => {
            format!("{name}: not used; the node goes on with the last good one that it had")
        }
        (_, Version::Reach) => format!("{name}: not used, apart from what the owner reaches the node by"),
        (Kind::Own, Version::Nothing) => format!("{name}: not used; defaults instead"),
        (Kind::Preseed, Version::Nothing) => format!("{name}: not used"),
    }
}

fn state(settings: &Settings) -> String {
    let (card, wiring) = (&settings.card, &settings.wiring);
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<9} {value}");
    };
    line("name", card.system.hostname.as_deref().unwrap_or(HOSTNAME));
    let keys = match card.system.ssh_keys.len() {
        0 => "off, since no key of an owner is here".to_owned(),
        1 => "with 1 key".to_owned(),
        n => format!("with {n} keys"),
    };
    line("SSH", &keys);
    let list = |names: &[crate::gate::InterfaceName]| {
        let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
        match names.is_empty() {
            true => "none".to_owned(),
            false => names.join(", "),
        }
    };
    line("uplink", &list(&wiring.uplink));
    line("guests", &list(&wiring.guest));
    let offered = card.access_point.clone().unwrap_or_default();
    let network = match &wiring.access_point {
        Some(interface) => format!("\"{}\" on {interface}", offered.ssid.escape_ascii()),
        None => "none".to_owned(),
    };
    line("offers", &network);
    if let (Some(wifi), Some(interface)) = (&card.wifi, &wiring.station) {
        line(
            "joins",
            &format!("\"{}\" on {interface}", wifi.ssid.escape_ascii()),
        );
    }
    line("sells", if settings.sells { "yes" } else { "no" });
    text
}

/// What an owner may want to write next.
fn next(settings: &Settings) -> String {
    let mut text = String::new();
    if settings.card.system.ssh_keys.is_empty() {
        text.push_str(
            "\nTo log in, write your public key into turnpike.toml:\n\n\
             [system]\nssh_keys = [\"ssh-ed25519 AAAA… you@home\"]\n",
        );
    }
    if !settings.sells {
        let head = match settings.chain {
            true => "\nTo sell, write into turnpike.toml:\n",
            false => {
                "\nTo sell, the node needs a bitcoind to watch its payments by. Write into turnpike.toml:\n\n\
                 [chain]\nurl = \"http://192.0.2.1:8332\"\nuser = \"…\"\npassword = \"…\"\n"
            }
        };
        text.push_str(head);
        text.push_str("\n[relay]\nenabled = true\n");
    }
    text
}
