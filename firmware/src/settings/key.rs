//! Public keys of SSH, by their shape.

use bitcoin::base64::Engine as _;
use bitcoin::base64::engine::general_purpose::STANDARD;

/// Kinds of SSH keys that today's servers take, each with the number of its parts after the kind.
const SSH_KINDS: [(&str, usize); 7] = [
    ("ssh-ed25519", 1),
    ("ssh-rsa", 2),
    ("ecdsa-sha2-nistp256", 2),
    ("ecdsa-sha2-nistp384", 2),
    ("ecdsa-sha2-nistp521", 2),
    ("sk-ssh-ed25519@openssh.com", 2),
    ("sk-ecdsa-sha2-nistp256@openssh.com", 3),
];
/// Bytes of an Ed25519 key.
const ED25519: usize = 32;
/// Longest line; RSA keys of 16,384 bits have 2,800 characters.
const MAX_LINE: usize = 8 * 1024;

/// Reads one line of an `authorized_keys` file without options.
///
/// # Errors
/// What is wrong, and what to do.
pub(super) fn ssh(line: &str) -> Result<String, (&'static str, &'static str)> {
    let copy = "copy the one line of a file that ends in .pub";
    if line.contains("PRIVATE KEY") {
        return Err((
            "this is a private key, and this partition is open to everybody",
            "make a new pair with ssh-keygen and write its .pub line here",
        ));
    }
    let mut words = line.split_ascii_whitespace();
    let kind = words.next().unwrap_or_default();
    let known = SSH_KINDS.iter().find(|(name, _)| *name == kind);
    let Some((_, parts)) = known.filter(|_| line.len() <= MAX_LINE) else {
        let what = match kind {
            "ssh-dss" => "keys of this kind are too weak and no longer taken",
            _ if line.contains(" ssh-") || line.contains(" ecdsa-") => "options before the key are not taken",
            _ => "this is no public key of SSH",
        };
        return Err((what, copy));
    };
    let body = words.next().unwrap_or_default();
    let bytes = STANDARD
        .decode(body)
        .map_err(|_| ("this key is cut or mistyped", copy))?;
    let fields = fields(&bytes).ok_or(("this key is cut or mistyped", copy))?;
    let (inner, rest) = fields
        .split_first()
        .ok_or(("this key is cut or mistyped", copy))?;
    if *inner != kind.as_bytes() {
        return Err(("the kind before the key is not the key's", copy));
    }
    let sized = rest.len() == *parts
        && rest.iter().all(|part| !part.is_empty())
        && (!kind.ends_with("ed25519") && !kind.starts_with("sk-ssh")
            || rest.first().is_some_and(|key| key.len() == ED25519));
    if !sized {
        return Err(("this key is cut or mistyped", copy));
    }
    let comment: String = words
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    Ok(format!("{kind} {body} {comment}").trim_end().to_owned())
}

/// The parts of a key, each after its length (RFC 4251, section 5); `None` unless they fill it exactly.
fn fields(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        fields.push(rest.get(..length)?);
        bytes = rest.get(length..)?;
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const ED: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJf5Df4u5bIJjCUtxZxW8bJuvQhUeuK2I4yJX0kXl1eH";

    #[test]
    fn every_kind_that_ssh_keygen_makes_is_taken_and_says_the_same_to_it() {
        if Command::new("ssh-keygen").arg("-?").output().is_err() {
            println!("skipped: no ssh-keygen, so no key was judged by it");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        for (kind, bits) in [
            ("ed25519", "256"),
            ("rsa", "2048"),
            ("ecdsa", "256"),
            ("ecdsa", "384"),
            ("ecdsa", "521"),
        ] {
            let path = folder.path().join(format!("{kind}{bits}"));
            let made = Command::new("ssh-keygen")
                .args([
                    "-q",
                    "-N",
                    "",
                    "-C",
                    "an owner's key",
                    "-t",
                    kind,
                    "-b",
                    bits,
                    "-f",
                ])
                .arg(&path)
                .status()
                .unwrap();
            assert!(made.success());
            let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
            let line = ssh(&public).unwrap();
            assert_eq!(line, public.trim_end());
            let kept = folder.path().join("kept");
            std::fs::write(&kept, format!("{line}\n")).unwrap();
            let read = Command::new("ssh-keygen")
                .args(["-l", "-f"])
                .arg(&kept)
                .output()
                .unwrap();
            assert!(read.status.success(), "{line}");
            // A key that lost characters is refused by both.
            let (start, _) = line.rsplit_once(" an owner").unwrap();
            let cut = &start[..start.len() - 8];
            assert!(ssh(cut).is_err(), "{cut}");
            std::fs::write(&kept, format!("{cut}\n")).unwrap();
            let read = Command::new("ssh-keygen")
                .args(["-l", "-f"])
                .arg(&kept)
                .output()
                .unwrap();
            assert!(!read.status.success(), "{cut}");
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused_with_its_reason() {
        assert_eq!(
            ssh(&format!("  {ED}  me@home\t1 ")).unwrap(),
            format!("{ED} me@home 1")
        );
        let body = ED.split(' ').nth(1).unwrap();
        for (line, reason) in [
            (String::new(), "no public key"),
            ("hello".to_owned(), "no public key"),
            (body.to_owned(), "no public key"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(), "private key"),
            (format!("ssh-rsa {body}"), "kind before"),
            (format!("ssh-dss {body}"), "too weak"),
            (format!("command=\"reboot\" {ED}"), "options"),
            ("ssh-ed25519".to_owned(), "cut"),
            ("ssh-ed25519 AAAA".to_owned(), "cut"),
            ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5".to_owned(), "cut"),
            ("ssh-ed25519 no+base64!".to_owned(), "cut"),
        ] {
            let (what, _) = ssh(&line).unwrap_err();
            assert!(what.contains(reason), "{line}: {what}");
        }
        assert_eq!(ssh(&format!("{ED} a\u{1b}[2Jb")).unwrap(), format!("{ED} a[2Jb"));
    }
}
