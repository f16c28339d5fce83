//! Receipts: cumulative figures of one channel that both sides sign, and how a client judges one.

use super::Quantity;
use crate::base::{ChannelId, GenesisHash, Msat, NodeId, SheetHash};
use crate::crypto::{self, Digest, Statement, Verifier};
use crate::wire::{self, Receipt, Signature};
use heapless::Vec as Bounded;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a receipt is not signed, or a stored one proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// It does not decode.
    #[error("the receipt cannot be read: it proves nothing")]
    Malformed,
    /// It names another relay, client or channel, or a sheet that was never offered.
    #[error("the receipt is about another relay, client, channel or price sheet: do not sign it")]
    Stranger,
    /// Its number does not follow the one before.
    #[error("the receipt's number does not follow the last one: ask for the missing receipt first")]
    Gap,
    /// A figure is lower than in the receipt before, or figures contradict each other.
    #[error("the receipt's figures went down or cost exceeds what was paid: do not sign it")]
    Figures,
    /// It says that another amount was paid than was.
    #[error("the receipt states another amount than was paid: do not sign it")]
    Paid,
    /// It claims more bytes or seconds than were counted here, beyond the tolerance.
    #[error(
        "the receipt claims more use than was counted here, beyond the tolerance: stop paying, keep it as proof"
    )]
    OverClaim,
    /// Its cost is above the price of its bytes and seconds.
    #[error("the receipt's cost is above the agreed price: stop paying, keep it as proof")]
    OverPriced,
    /// A signature does not verify.
    #[error("a signature under the receipt does not verify: it proves nothing against that side")]
    Signature,
}

/// What the client knows, to hold against an offered receipt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expected<'a> {
    /// The relay.
    pub relay: NodeId,
    /// The client.
    pub client: NodeId,
    /// The channel.
    pub channel: ChannelId,
    /// The sheet in force, and the one before it (the relay may have closed the stretch under that one).
    pub sheets: [SheetHash; 2],
    /// The receipt before; `None` at the first one.
    pub previous: Option<&'a Receipt>,
    /// The record of earlier receipts was lost: any number is accepted, once.
    pub forgotten: bool,
    /// The newest total that was acknowledged, and the newest that was signed.
    pub paid: [Msat; 2],
    /// The most use that is tolerated, own counts and loss tolerance included.
    pub most: Quantity,
    /// The most that such use may cost.
    pub most_cost: Msat,
}

impl Expected<'_> {
    /// Judges an offered receipt. A repetition of the last one is accepted: the answer was lost.
    ///
    /// # Errors
    /// [`ReceiptError`], the relay's fault; the receipt must not be signed.
    pub fn check(&self, offered: &Receipt) -> Result<(), ReceiptError> {
        if offered.relay != self.relay || offered.client != self.client || offered.channel != self.channel {
            return Err(ReceiptError::Stranger);
        }
        if self.previous == Some(offered) {
            return Ok(());
        }
        if !self.sheets.contains(&offered.sheet) {
            return Err(ReceiptError::Stranger);
        }
        let (number, rising) = match self.previous {
            Some(last) => (last.sequence.checked_add(1), rises(last, offered)),
            None => (Some(1), true),
        };
        if number != Some(offered.sequence) && !(self.forgotten && self.previous.is_none()) {
            return Err(ReceiptError::Gap);
        }
        if !rising || offered.cost > offered.paid {
            return Err(ReceiptError::Figures);
        }
        let [acknowledged, signed] = self.paid;
        if offered.paid < acknowledged || offered.paid > signed {
            return Err(ReceiptError::Paid);
        }
        if offered.up > self.most.up || offered.down > self.most.down || offered.seconds > self.most.seconds {
            return Err(ReceiptError::OverClaim);
        }
        if offered.cost > self.most_cost {
            return Err(ReceiptError::OverPriced);
        }
        Ok(())
    }
}

fn rises(last: &Receipt, next: &Receipt) -> bool {
    next.up >= last.up
        && next.down >= last.down
        && next.seconds >= last.seconds
        && next.cost >= last.cost
        && next.paid >= last.paid
        && next.height >= last.height
}

/// A receipt as it was received, with the signatures under it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignedReceipt {
    /// The bytes that were signed.
    pub bytes: Bounded<u8, 224>,
    /// The relay's signature.
    pub relay: Signature,
    /// The client's, once it agreed.
    pub client: Option<Signature>,
}

impl SignedReceipt {
    /// Decodes the receipt and verifies every signature that is there. A receipt without the client's signature is
    /// the relay's claim alone.
    ///
    /// # Errors
    /// [`ReceiptError::Malformed`] or [`ReceiptError::Signature`].
    pub fn verify(&self, verifier: &Verifier, genesis: GenesisHash) -> Result<Receipt, ReceiptError> {
        let receipt: Receipt = wire::decode(&self.bytes).map_err(|_| ReceiptError::Malformed)?;
        let check = |signer: NodeId, peer: NodeId, signature: &Signature| {
            let signature =
                crypto::Signature::from_slice(&signature.0).map_err(|_| ReceiptError::Signature)?;
            let digest = receipt_digest(genesis, signer, peer, receipt.channel, &self.bytes);
            verifier
                .verify(&signer, &digest, &signature)
                .map_err(|_| ReceiptError::Signature)
        };
        check(receipt.relay, receipt.client, &self.relay)?;
        if let Some(signature) = &self.client {
            check(receipt.client, receipt.relay, signature)?;
        }
        Ok(receipt)
    }
}

/// What a side signs under a receipt's bytes: tag `turnpike/receipt/v1`, instance the channel.
pub fn receipt_digest(
    genesis: GenesisHash,
    signer: NodeId,
    peer: NodeId,
    channel: ChannelId,
    bytes: &[u8],
) -> Digest {
    Statement {
        kind: "receipt",
        genesis,
        signer,
        peer: *peer.as_bytes(),
        instance: *channel.as_bytes(),
        body: bytes,
    }
    .digest()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{BlockHeight, ByteCount};
    use crate::crypto::Signer;
    use bitcoin::secp256k1::{Keypair, Secp256k1, SecretKey};

    fn receipt() -> Receipt {
        Receipt {
            relay: NodeId::from_bytes([1; 32]),
            client: NodeId::from_bytes([2; 32]),
            channel: ChannelId::from_bytes([3; 32]),
            sequence: 1,
            sheet: SheetHash::from_bytes([4; 32]),
            height: BlockHeight::new(100),
            up: ByteCount::new(1_000),
            down: ByteCount::new(2_000),
            seconds: 3,
            cost: Msat::new(30),
            paid: Msat::new(50),
        }
    }

    fn expected() -> Expected<'static> {
        let r = receipt();
        Expected {
            relay: r.relay,
            client: r.client,
            channel: r.channel,
            sheets: [r.sheet; 2],
            previous: None,
            forgotten: false,
            paid: [Msat::new(40), Msat::new(60)],
            most: Quantity {
                up: r.up,
                down: r.down,
                seconds: r.seconds,
            },
            most_cost: r.cost,
        }
    }

    #[test]
    fn every_figure_is_held_against_what_the_client_knows() {
        let refused = |change: fn(&mut Receipt)| {
            let mut r = receipt();
            change(&mut r);
            expected().check(&r).err()
        };
        assert_eq!(refused(|_| ()), None);
        assert_eq!(
            refused(|r| r.channel = ChannelId::from_bytes([9; 32])),
            Some(ReceiptError::Stranger)
        );
        assert_eq!(
            refused(|r| r.sheet = SheetHash::from_bytes([9; 32])),
            Some(ReceiptError::Stranger)
        );
        assert_eq!(refused(|r| r.sequence = 2), Some(ReceiptError::Gap));
        assert_eq!(refused(|r| r.cost = Msat::new(51)), Some(ReceiptError::Figures));
        assert_eq!(refused(|r| r.paid = Msat::new(39)), Some(ReceiptError::Paid));
        assert_eq!(refused(|r| r.paid = Msat::new(61)), Some(ReceiptError::Paid));
        assert_eq!(
            refused(|r| r.down = ByteCount::new(2_001)),
            Some(ReceiptError::OverClaim)
        );
        assert_eq!(
            refused(|r| r.cost = Msat::new(31)),
            Some(ReceiptError::OverPriced)
        );
    }

    #[test]
    fn numbers_follow_without_gaps_and_figures_never_fall() {
        let last = receipt();
        let known = Expected {
            previous: Some(&last),
            ..expected()
        };
        let next = |change: fn(&mut Receipt)| {
            let mut r = Receipt { sequence: 2, ..last };
            change(&mut r);
            known.check(&r).err()
        };
        assert_eq!(known.check(&last), Ok(()));
        assert_eq!(next(|_| ()), None);
        assert_eq!(next(|r| r.sequence = 3), Some(ReceiptError::Gap));
        assert_eq!(
            next(|r| (r.sequence, r.paid) = (1, Msat::new(51))),
            Some(ReceiptError::Gap)
        );
        assert_eq!(next(|r| r.up = ByteCount::new(999)), Some(ReceiptError::Figures));
        assert_eq!(
            next(|r| r.height = BlockHeight::new(99)),
            Some(ReceiptError::Figures)
        );
    }

    #[test]
    fn both_signatures_bind_the_bytes_the_chain_and_the_roles() {
        let secp = Secp256k1::new();
        let key = |n: u8| Keypair::from_secret_key(&secp, &SecretKey::from_slice(&[n; 32]).unwrap());
        let node = |key: &Keypair| NodeId::from_bytes(key.x_only_public_key().0.serialize());
        let (relay, client) = (key(1), key(2));
        let r = Receipt {
            relay: node(&relay),
            client: node(&client),
            ..receipt()
        };
        let bytes = wire::encode(&r);
        let genesis = GenesisHash::from_bytes([5; 32]);
        let signer = Signer::new(&[6; 32]);
        let sign = |key: &Keypair, me, peer| {
            let digest = receipt_digest(genesis, me, peer, r.channel, &bytes);
            Signature(signer.sign(key, &digest).serialize())
        };
        let mut signed = SignedReceipt {
            bytes: Bounded::from_slice(&bytes).unwrap(),
            relay: sign(&relay, r.relay, r.client),
            client: Some(sign(&client, r.client, r.relay)),
        };
        let verifier = Verifier::new();
        assert_eq!(signed.verify(&verifier, genesis), Ok(r));
        let elsewhere = GenesisHash::from_bytes([8; 32]);
        assert_eq!(signed.verify(&verifier, elsewhere), Err(ReceiptError::Signature));
        // The client's signature cannot stand for the relay's.
        let swapped = SignedReceipt {
            relay: signed.client.unwrap(),
            ..signed.clone()
        };
        assert_eq!(swapped.verify(&verifier, genesis), Err(ReceiptError::Signature));
        *signed.bytes.last_mut().unwrap() ^= 1;
        assert_eq!(signed.verify(&verifier, genesis), Err(ReceiptError::Signature));
    }
}
