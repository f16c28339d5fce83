//! Receipts, read from the store a page at a time, so that the core never waits long.

use super::{Desk, refusal};
use crate::control::{Failed, Hex, MAX_RECEIPTS, ReceiptCopy, Response};
use crate::store::{Row, Table};
use turnpike_protocol::base::GenesisHash;
use turnpike_protocol::node::record::{self, ReceiptRecord};
use turnpike_protocol::wire::{self, Receipt};

/// Rows read at once.
const PAGE: usize = 1_000;

impl Desk {
    pub(super) async fn receipt_list(&self, skip: u32, limit: u32) -> Result<Response, Failed> {
        let wanted = u64::from(skip)..u64::from(skip) + u64::from(limit.min(MAX_RECEIPTS));
        let mut receipts = Vec::new();
        let (mut first, mut place) = (Vec::new(), 0_u64);
        loop {
            let from = first.clone();
            let rows = self
                .core
                .store(move |s| s.load_from(Table::Receipt, &from, PAGE))
                .await?
                .map_err(refusal::store)?;
            let full = rows.len() == PAGE;
            for Row { key, value } in rows {
                if wanted.contains(&place) {
                    receipts.push(copy(self.genesis, &value)?);
                }
                place += 1;
                // The next key there can be.
                first = key;
                first.push(0);
            }
            if !full {
                return Ok(Response::Receipts {
                    total: u32::try_from(place).unwrap_or(u32::MAX),
                    receipts,
                });
            }
        }
    }
}

fn copy(genesis: GenesisHash, row: &[u8]) -> Result<ReceiptCopy, Failed> {
    let damaged = || {
        Failed::daemon(
            "a receipt in the store cannot be read",
            "restore the store from a backup",
        )
    };
    let kept: ReceiptRecord = record::read(record::Table::Receipt, row).map_err(|_| damaged())?;
    let receipt: Receipt = wire::decode(&kept.receipt).map_err(|_| damaged())?;
    Ok(ReceiptCopy {
        genesis: Hex(genesis),
        receipt: Hex(kept.receipt),
        relay_signature: Hex(kept.relay.0),
        client_signature: kept.client.map(|s| Hex(s.0)),
        relay: Hex(receipt.relay),
        client: Hex(receipt.client),
        channel: Hex(receipt.channel),
        sequence: receipt.sequence,
        sheet: Hex(receipt.sheet),
        height: receipt.height,
        up_bytes: receipt.up,
        down_bytes: receipt.down,
        seconds: receipt.seconds,
        cost_msat: receipt.cost,
        paid_msat: receipt.paid,
    })
}
