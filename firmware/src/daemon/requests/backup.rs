//! An encrypted backup of the store.

use super::Desk;
use crate::control::{Failed, Hex, Response};
use crate::store::{Backup, Store, StoreError, Table};
use std::path::PathBuf;
use turnpike_protocol::crypto::{CoinType, Keys, Seed};
use zeroize::Zeroizing;

impl Desk {
    /// The core waits while the backup is written: what is in it and what was promised to peers belong together.
    pub(super) async fn backup(&self, path: PathBuf) -> Result<Response, Failed> {
        if !path.is_absolute() {
            return Err(Failed::usage(
                format!("{} is not named from the root", path.display()),
                "name it with its whole path",
            ));
        }
        let key = self.backup_key()?;
        let file = path.clone();
        let written = self
            .core
            .store(move |s| tokio::task::block_in_place(|| Ok((s.export(&file, &key)?, counted(s)?))))
            .await?;
        let (Backup { rows, entries, hash }, [payers, payees, receipts]) =
            written.map_err(|error: StoreError| Failed::from_error(error))?;
        Ok(Response::BackedUp {
            path,
            rows,
            entries,
            hash: Hex(hash),
            channels: payers + payees,
            receipts,
        })
    }

    /// The seed's owner alone can read a backup, so it is sealed under a key of the seed.
    fn backup_key(&self) -> Result<Zeroizing<[u8; 32]>, Failed> {
        let path = self.config.seed();
        let unreadable =
            |why: String| Failed::daemon(format!("{}: {why}", path.display()), "check the data folder");
        let words = Zeroizing::new(std::fs::read_to_string(&path).map_err(|e| unreadable(e.to_string()))?);
        let seed = Seed::from_words(words.trim()).map_err(|e| unreadable(e.to_string()))?;
        let coin = match self.config.chain.network {
            bitcoin::Network::Bitcoin => CoinType::Bitcoin,
            _ => CoinType::Test,
        };
        let keys = Keys::new(&seed, coin).map_err(|e| unreadable(e.to_string()))?;
        Ok(Zeroizing::new(*keys.recovery().as_bytes()))
    }
}

/// What the owner knows of a store: channels as payer, channels as payee, receipts.
fn counted(store: &Store) -> Result<[u64; 3], StoreError> {
    let mut counts = [0; 3];
    for (count, table) in counts
        .iter_mut()
        .zip([Table::Payer, Table::Payee, Table::Receipt])
    {
        *count = store.load(table)?.len() as u64;
    }
    Ok(counts)
}
