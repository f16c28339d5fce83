//! Power cuts, and files that nobody wrote on purpose.

use super::super::disk::Disk;
use super::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A disk whose power goes after a number of steps. What was not made durable may be there, or not, or half.
#[derive(Clone, Default)]
struct Fragile {
    files: RefCell<Vec<[Vec<u8>; 2]>>,
    /// Names as they are now, and as they were at each step since they were last made durable.
    names: RefCell<Vec<BTreeMap<PathBuf, usize>>>,
    left: Cell<usize>,
    forgets: bool,
}

const NOW: usize = 0;
const DURABLE: usize = 1;

impl Fragile {
    fn with(files: &[(&str, &str)]) -> Fragile {
        let disk = Fragile::default();
        disk.left.set(usize::MAX);
        disk.names.borrow_mut().push(BTreeMap::new());
        for (path, text) in files {
            disk.create(Path::new(path), text.as_bytes(), 0).unwrap();
            disk.sync(Path::new(path)).unwrap();
        }
        disk.sync_folder(Path::new("")).unwrap();
        disk
    }

    fn step(&self) -> io::Result<()> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(io::Error::other("the power is gone")),
        }
    }

    fn at(&self, path: &Path) -> io::Result<usize> {
        let names = self.names.borrow();
        let found = names.last().unwrap().get(path).copied();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn rename_now(&self, change: impl FnOnce(&mut BTreeMap<PathBuf, usize>)) {
        let mut names = self.names.borrow().last().unwrap().clone();
        change(&mut names);
        self.names.borrow_mut().push(names);
    }

    /// Every disk that may be found when the power is back.
    fn after(&self) -> Vec<Fragile> {
        let names = self.names.borrow().clone();
        let mut found = Vec::new();
        for names in names {
            for keep in 0..3 {
                let files = self.files.borrow().clone();
                let files = files.into_iter().map(|[now, durable]| {
                    let content = match keep {
                        0 => durable,
                        // It was on the way.
                        1 if durable != now => now[..now.len() / 2].to_vec(),
                        _ => now,
                    };
                    [content.clone(), content]
                });
                found.push(Fragile {
                    files: RefCell::new(files.collect()),
                    names: RefCell::new(vec![names.clone()]),
                    left: Cell::new(usize::MAX),
                    forgets: self.forgets,
                });
            }
        }
        found
    }

    fn text(&self, path: &str) -> Option<String> {
        let at = self.at(Path::new(path)).ok()?;
        Some(String::from_utf8(self.files.borrow()[at][NOW].clone()).unwrap())
    }
}

impl Disk for Fragile {
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let at = self.at(path)?;
        let bytes = &self.files.borrow()[at][NOW];
        Ok(bytes[..bytes.len().min(limit)].to_vec())
    }
    fn make_folder(&self, _: &Path) -> io::Result<()> {
        self.step()
    }
    fn create(&self, path: &Path, bytes: &[u8], _: u32) -> io::Result<()> {
        self.step()?;
        if self.at(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut files = self.files.borrow_mut();
        files.push([bytes.to_vec(), Vec::new()]);
        let at = files.len() - 1;
        self.rename_now(|names| {
            names.insert(path.to_owned(), at);
        });
        Ok(())
    }
    fn sync(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        let at = self.at(path)?;
        let file = &mut self.files.borrow_mut()[at];
        file[DURABLE] = file[NOW].clone();
        Ok(())
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        let at = self.at(from)?;
        // FAT writes the new name before it removes the old one.
        self.rename_now(|names| {
            names.insert(to.to_owned(), at);
        });
        self.rename_now(|names| {
            names.remove(from);
        });
        Ok(())
    }
    fn sync_folder(&self, _: &Path) -> io::Result<()> {
        self.step()?;
        let mut names = self.names.borrow_mut();
        let last = names.pop().unwrap();
        *names = vec![last];
        Ok(())
    }
    fn rename_and_wipe(&self, from: &Path, to: &Path) -> io::Result<()> {
        let old = self.at(to)?;
        self.rename(from, to)?;
        self.sync_folder(to)?;
        self.step()?;
        let length = self.files.borrow()[old][NOW].len();
        self.files.borrow_mut()[old] = [vec![0; length], vec![0; length / 2]];
        Ok(())
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        self.rename_now(|names| {
            names.remove(path);
        });
        Ok(())
    }
    fn remembers(&self, _: &Path) -> bool {
        !self.forgets
    }
    fn while_writable(&self, write: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
        write()
    }
}

/// Boots from `disk` with the power cut after every number of steps, and boots again from every disk that may be found
/// then. Gives the number of these second boots.
fn cut_everywhere(disk: &Fragile, wanted: &str, unwanted: Option<&str>) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let place = Places {
        run: folder.path().join("run"),
        ..Places::card()
    };
    let interfaces = Interfaces::new(["eth0", "wlan0"]);
    let whole = disk.text("/boot/turnpike.toml").unwrap();
    let without = whole.replace(wanted, MOVED);
    let stored = disk.text("/data/settings/turnpike.toml");
    let supplicant = || fs::read_to_string(place.run.join("settings/wifi/wpa_supplicant.conf")).unwrap();
    let mut boots = 0;
    for steps in 0.. {
        let cut = disk.clone();
        cut.left.set(steps);
        apply_on(&cut, &place, &interfaces).unwrap();
        let finished = cut.left.get() > 0;
        for found in cut.after() {
            boots += 1;
            let boot = found.text("/boot/turnpike.toml").unwrap();
            let data = found.text("/data/settings/turnpike.toml");
            assert!(
                boot == whole || boot == without,
                "a whole file, after {steps} steps: {boot}"
            );
            assert!(
                data == stored || data.as_deref() == Some(&whole),
                "a whole file, after {steps} steps: {data:?}"
            );
            assert!(
                boot == whole || data.as_deref() == Some(&whole),
                "the secret is lost after {steps} steps"
            );
            let told = apply_on(&found, &place, &interfaces).unwrap();
            assert_eq!(lines(&told), "", "after {steps} steps");
            assert!(supplicant().contains(wanted), "after {steps} steps");
            assert!(unwanted.is_none_or(|old| !supplicant().contains(old)));
            assert_eq!(found.text("/boot/turnpike.toml").unwrap(), without);
            assert_eq!(found.text("/data/settings/turnpike.toml").unwrap(), whole);
        }
        if finished {
            // The old file's bytes are gone, too.
            let files = cut.files.borrow();
            let left = files
                .iter()
                .filter(|file| String::from_utf8_lossy(&file[NOW]).contains(wanted));
            assert_eq!(left.count(), 1, "only in the data partition");
            return boots;
        }
    }
    boots
}

#[test]
fn a_power_cut_at_any_step_loses_no_secret_and_leaves_no_half_file() {
    let first = "[wifi]\nssid = \"Net\"\npassword = \"first secret\"\n[node]\nname = \"a\"\n";
    let boots = cut_everywhere(
        &Fragile::with(&[("/boot/turnpike.toml", first)]),
        "first secret",
        None,
    );
    assert!(boots > 50, "{boots}");
    // A later boot, with another secret in place of the one that was moved.
    let second = first.replace("first", "second").replace("\"a\"", "\"b\"");
    let disk = Fragile::with(&[
        ("/boot/turnpike.toml", &second),
        ("/data/settings/turnpike.toml", first),
        // What an earlier cut left.
        ("/boot/turnpike.new", "[wi"),
        ("/data/settings/turnpike.new", "[wi"),
    ]);
    let boots = cut_everywhere(&disk, "second secret", Some("first secret"));
    assert!(boots > 50, "{boots}");
}

#[test]
fn nothing_is_moved_into_ram() {
    let first = "[wifi]\nssid = \"Net\"\npassword = \"first secret\"\n";
    let disk = Fragile {
        forgets: true,
        ..Fragile::with(&[("/boot/turnpike.toml", first)])
    };
    let folder = tempfile::tempdir().unwrap();
    let place = Places {
        run: folder.path().join("run"),
        ..Places::card()
    };
    apply_on(&disk, &place, &Interfaces::new(["wlan0"])).unwrap();
    assert_eq!(disk.text("/boot/turnpike.toml").unwrap(), first);
    assert_eq!(disk.text("/data/settings/turnpike.toml"), None);
}

/// A generator of numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.max(1) as u64) as usize
    }
}

#[test]
fn whatever_stands_in_the_files_there_is_a_configuration() {
    let seeds = [
        include_str!("../../config/example.toml")
            .replace("@data_dir@", "/d")
            .replace("\n#", "\n"),
        format!(
            "config_version = \"1.0\"\n[system]\nhostname = \"i\"\n[ssh]\nenabled = true\nauthorized_keys = [\"{KEY}\"]\n[wlan]\n\
             ssid = \"Home\"\npassword = \"12345678\"\ncountry = \"GB\"\n[mesh.relay]\nenabled = true\n[mesh.chain]\nuser = \"u\"\npassword = \"p\"\n"
        ),
        format!(
            "[system]\nssh_keys = [\"{KEY}\"]\ncountry = \"DE\"\n[wifi]\nssid = \"N\"\npassword = \"12345678\"\n[access_point]\nchannel = 36\n\
             security = \"wpa2\"\npassword = \"{MOVED}\"\n[update]\nkeys = [\"x\"]\nthreshold = 1\n[relay]\nenabled = true\nguest_interface = \"eth0\"\n"
        ),
    ];
    let folder = tempfile::tempdir().unwrap();
    let place = Places {
        run: folder.path().join("run"),
        ..Places::card()
    };
    let mut dice = Dice(0x7470_696b);
    for round in 0..400 {
        let file = |dice: &mut Dice| {
            let mut bytes = seeds[dice.roll(seeds.len())].clone().into_bytes();
            match dice.roll(5) {
                0 => bytes = (0..dice.roll(300)).map(|_| dice.roll(256) as u8).collect(),
                1 => bytes.truncate(dice.roll(bytes.len())),
                _ => {}
            }
            for _ in 0..dice.roll(6) {
                let at = dice.roll(bytes.len());
                match dice.roll(3) {
                    0 if at < bytes.len() => bytes[at] = b"\"[]{}=.#\n\\0x\xc3 "[dice.roll(14)],
                    1 if at < bytes.len() => drop(bytes.drain(at..(at + dice.roll(20)).min(bytes.len()))),
                    _ => {
                        let from = dice.roll(bytes.len());
                        let piece = bytes[from..(from + dice.roll(40)).min(bytes.len())].to_vec();
                        bytes.splice(at..at, piece);
                    }
                }
            }
            bytes
        };
        let disk = Fragile::with(&[]);
        for path in [
            "/boot/turnpike.toml",
            "/boot/rpi-preseed.toml",
            "/data/settings/turnpike.toml",
        ] {
            if dice.roll(4) > 0 {
                disk.create(Path::new(path), &file(&mut dice), 0).unwrap();
            }
        }
        let told = apply_on(&disk, &place, &Interfaces::new(["eth0", "wlan0"])).unwrap();
        let config = Config::read(&place.run.join(OWN));
        assert!(config.is_ok(), "round {round}: {config:?}");
        let again = apply_on(&disk, &place, &Interfaces::new(["eth0", "wlan0"])).unwrap();
        assert_eq!(again.findings.len(), told.findings.len(), "round {round}");
        let at = disk.at(Path::new("/boot/turnpike.toml"));
        if let Ok(at) = at {
            check(OWN, &disk.files.borrow()[at][NOW], &Interfaces::default());
        }
    }
}
