//! The electronics of a card that is worse than a file: it forgets what it was not told to flush when the power goes, or forgets
//! everything from some moment on and says nothing.
//!
//! An NBD server on a Unix socket, for one machine at a time (the protocol's document `proto.md`: fixed newstyle, simple replies).

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SECTOR: u64 = 512;
/// Most bytes of one request that are taken; QEMU's own limit is 32 MiB.
const MAX_REQUEST: usize = 64 << 20;

const MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
/// Fixed newstyle, no zeroes after the export's description.
const HANDSHAKE: u16 = 3;
const EXPORT_NAME: u32 = 1;
const ABORT: u32 = 2;
const INFO: u32 = 6;
const GO: u32 = 7;
const ACK: u32 = 1;
const REPLY_INFO: u32 = 3;
const UNSUPPORTED: u32 = 0x8000_0001;
/// Has flags, wants flushes.
const EXPORT: u16 = 1 | 4;
const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;
/// `EINVAL`.
const INVALID: u32 = 22;

/// A card whose file is served, and its faults.
pub struct Disk {
    socket: PathBuf,
    state: Arc<Mutex<State>>,
    forgets: Arc<AtomicBool>,
}

struct State {
    file: File,
    /// What sectors held at the last flush, of those that were written since.
    unflushed: HashMap<u64, [u8; SECTOR as usize]>,
}

impl Disk {
    /// Serves this file at a socket beside it. The thread lives as long as the process.
    pub fn serve(card: &Path) -> Disk {
        let file = OpenOptions::new().read(true).write(true).open(card);
        let socket = card.with_extension("nbd");
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).expect("a socket");
        let disk = Disk {
            socket,
            state: Arc::new(Mutex::new(State {
                file: file.expect("the card's file"),
                unflushed: HashMap::new(),
            })),
            forgets: Arc::new(AtomicBool::new(false)),
        };
        let (state, forgets) = (disk.state.clone(), disk.forgets.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Ends with the machine.
                let _ = talk(stream, &state, &forgets);
            }
        });
        disk
    }

    /// As QEMU names it.
    pub fn name(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket.display())
    }

    /// From now on writes are confirmed and forgotten, or no longer.
    pub fn forget(&self, forgets: bool) {
        self.forgets.store(forgets, Ordering::SeqCst);
    }

    /// After the power went: of the sectors that were written since the last flush, each keeps its new content or gets its old one
    /// back, as `keeps` says. Gives how many there were and how many were lost.
    pub fn lose(&self, mut keeps: impl FnMut() -> bool) -> (usize, usize) {
        let mut state = held(&self.state);
        let mut sectors: Vec<_> = state.unflushed.drain().collect();
        sectors.sort_by_key(|(sector, _)| *sector);
        let mut lost = 0;
        for (sector, old) in &sectors {
            if !keeps() {
                lost += 1;
                let _ = state.file.write_all_at(old, sector * SECTOR);
            }
        }
        (sectors.len(), lost)
    }
}

fn held(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn write(&mut self, from: u64, bytes: &[u8]) -> io::Result<()> {
        let end = from + bytes.len() as u64;
        for sector in from / SECTOR..end.div_ceil(SECTOR) {
            if !self.unflushed.contains_key(&sector) {
                let mut old = [0; SECTOR as usize];
                self.file.read_exact_at(&mut old, sector * SECTOR)?;
                self.unflushed.insert(sector, old);
            }
        }
        self.file.write_all_at(bytes, from)
    }
}

fn talk(mut stream: UnixStream, state: &Mutex<State>, forgets: &AtomicBool) -> io::Result<()> {
    let size = held(state).file.metadata()?.len();
    stream.write_all(&MAGIC.to_be_bytes())?;
    stream.write_all(&OPTION_MAGIC.to_be_bytes())?;
    stream.write_all(&HANDSHAKE.to_be_bytes())?;
    let _client_flags: [u8; 4] = take(&mut stream)?;
    if !agree(&mut stream, size)? {
        return Ok(());
    }
    loop {
        if u32::from_be_bytes(take(&mut stream)?) != REQUEST_MAGIC {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let _flags: [u8; 2] = take(&mut stream)?;
        let kind = u16::from_be_bytes(take(&mut stream)?);
        let cookie: [u8; 8] = take(&mut stream)?;
        let from = u64::from_be_bytes(take(&mut stream)?);
        let length = u32::from_be_bytes(take(&mut stream)?) as usize;
        if length > MAX_REQUEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = vec![0; if kind == READ || kind == WRITE { length } else { 0 }];
        if kind == WRITE {
            stream.read_exact(&mut bytes)?;
        }
        let mut state = held(state);
        let forgetful = forgets.load(Ordering::SeqCst);
        let outcome = match kind {
            READ => state.file.read_exact_at(&mut bytes, from),
            WRITE if forgetful => Ok(()),
            WRITE => state.write(from, &bytes),
            FLUSH => {
                state.unflushed.clear();
                Ok(())
            }
            DISCONNECT => return Ok(()),
            _ => Err(io::ErrorKind::Unsupported.into()),
        };
        drop(state);
        let error = if outcome.is_ok() { 0 } else { INVALID };
        let mut reply = Vec::with_capacity(16 + bytes.len());
        reply.extend_from_slice(&REPLY_MAGIC.to_be_bytes());
        reply.extend_from_slice(&error.to_be_bytes());
        reply.extend_from_slice(&cookie);
        if kind == READ && outcome.is_ok() {
            reply.extend_from_slice(&bytes);
        }
        stream.write_all(&reply)?;
    }
}

/// Options until the client goes over to reading and writing; whether it does.
fn agree(stream: &mut UnixStream, size: u64) -> io::Result<bool> {
    loop {
        if u64::from_be_bytes(take(stream)?) != OPTION_MAGIC {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let option = u32::from_be_bytes(take(stream)?);
        let length = u32::from_be_bytes(take(stream)?) as usize;
        if length > MAX_REQUEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut data = vec![0; length];
        stream.read_exact(&mut data)?;
        let mut export = Vec::from(0_u16.to_be_bytes());
        export.extend_from_slice(&size.to_be_bytes());
        export.extend_from_slice(&EXPORT.to_be_bytes());
        match option {
            EXPORT_NAME => {
                stream.write_all(export.get(2..).unwrap_or_default())?;
                return Ok(true);
            }
            GO | INFO => {
                reply(stream, option, REPLY_INFO, &export)?;
                reply(stream, option, ACK, &[])?;
                if option == GO {
                    return Ok(true);
                }
            }
            ABORT => {
                reply(stream, option, ACK, &[])?;
                return Ok(false);
            }
            _ => reply(stream, option, UNSUPPORTED, &[])?,
        }
    }
}

fn reply(stream: &mut UnixStream, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    stream.write_all(&OPTION_REPLY_MAGIC.to_be_bytes())?;
    stream.write_all(&option.to_be_bytes())?;
    stream.write_all(&kind.to_be_bytes())?;
    stream.write_all(&(data.len() as u32).to_be_bytes())?;
    stream.write_all(data)
}

fn take<const N: usize>(stream: &mut UnixStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
