//! Every key of a node, from its seed. The path table is in `protocol/spec/keys.md`.

use super::seed::Seed;
use super::sign::{Signature, Signer};
use super::tagged::{Digest, tagged_hash};
use crate::base::NodeId;
use alloc::format;
use alloc::string::String;
use bitcoin::NetworkKind;
use bitcoin::bip32::{ChainCode, ChildNumber, Xpriv};
use bitcoin::secp256k1::Keypair;
use core::fmt;
use thiserror::Error;
use zeroize::Zeroizing;

/// Purpose of this protocol's own branches: "turn" in ASCII, below 2^31, registered by nobody else (SLIP-44/BIP43).
pub const PURPOSE: u32 = 0x7475_726e;

/// Which coins the keys are for: BIP44's coin type, hardened in every path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CoinType {
    /// Main chain, `0'`.
    Bitcoin,
    /// Every test chain, `1'`.
    Test,
}

/// Which side of a simplex a key serves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// The side that funds it, `0'`.
    Payer,
    /// The side that is paid, `1'`.
    Payee,
}

/// Why a key cannot be derived. Our own mistake in both cases.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Hardened BIP32 indexes end at 2^31 − 1.
    #[error("key index {0} is 2^31 or more: no such key; the store's key counter is damaged, restore it")]
    Index(u32),
    /// Happens to less than one seed in 2^127.
    #[error("this seed gives no valid key: make a new seed")]
    Derivation,
}

/// The keys of one node on one kind of chain.
///
/// Made once at start (it stretches the seed, which is slow) and shared by reference: what messages need is derived here,
/// what channels need is derived once per channel and kept by the channel. Wiped as far as the types allow when dropped.
pub struct Keys {
    coin: CoinType,
    signer: Signer,
    identity: Keypair,
    node: NodeId,
    session: SessionStatic,
    recovery: RecoveryKey,
    payer: Xpriv,
    payee: Xpriv,
    account: Xpriv,
    fingerprint: [u8; 4],
}

/// The key pair of one side of one simplex. Never used for anything else, never the identity key. What a channel brings
/// goes to the wallet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ChannelKeys {
    /// Stands in the funding output and signs payments, settlements and the refund; a payer's stands in its remainder,
    /// too, and signs its way home.
    pub funding: Keypair,
}

/// The X25519 secret that Noise knows this node by; the identity key vouches for it in every session.
#[derive(Clone)]
pub struct SessionStatic(Zeroizing<[u8; 32]>);

/// Seals recovery data, so that only the seed words read them.
#[derive(Clone)]
pub struct RecoveryKey(Zeroizing<[u8; 32]>);

/// The node's on-chain wallet by BIP86, as any other wallet imports it. Holds secrets: never print or log it.
pub struct Account {
    /// `tr([fingerprint/86'/coin'/0']xprv/0/*)#checksum`: addresses to receive on.
    pub external: Zeroizing<String>,
    /// The same with `/1/*`: change.
    pub internal: Zeroizing<String>,
    /// The account's extended private key, `m/86'/coin'/0'`.
    pub xprv: Xpriv,
}

impl Keys {
    /// Derives everything that does not depend on a channel.
    ///
    /// # Errors
    /// [`KeyError::Derivation`], with a chance below 2^-127.
    pub fn new(seed: &Seed, coin: CoinType) -> Result<Keys, KeyError> {
        let master =
            Xpriv::new_master(coin.network(), seed.stretched().as_ref()).map_err(|_| KeyError::Derivation)?;
        // The blinding only has to be secret and of this node; it is no key.
        let blinding = tagged_hash(
            "turnpike/context-blinding/v1",
            &[&master.private_key.secret_bytes()],
        );
        let signer = Signer::new(&blinding);
        let own = descend(&signer, &master, &[PURPOSE, coin.index()])?;
        let identity = descend(&signer, &own, &[BRANCH_IDENTITY])?.to_keypair(signer.context());
        let session = descend(&signer, &own, &[BRANCH_SESSION])?;
        let recovery = descend(&signer, &own, &[BRANCH_RECOVERY])?;
        Ok(Keys {
            coin,
            identity,
            node: NodeId::from_bytes(identity.x_only_public_key().0.serialize()),
            session: SessionStatic(leaf("turnpike/session-static/v1", &session)),
            recovery: RecoveryKey(leaf("turnpike/recovery-key/v1", &recovery)),
            payer: descend(&signer, &own, &[BRANCH_CHANNEL, Role::Payer.index()])?,
            payee: descend(&signer, &own, &[BRANCH_CHANNEL, Role::Payee.index()])?,
            account: descend(&signer, &master, &[86, coin.index(), 0])?,
            fingerprint: master.fingerprint(signer.context()).to_bytes(),
            signer,
        })
    }

    /// The same keys once more, for fuzzers that start a node thousands of times: stretching a seed takes milliseconds.
    #[cfg(feature = "vectors")]
    pub fn twin(&self) -> Keys {
        Keys {
            signer: self.signer.clone(),
            session: self.session.clone(),
            recovery: self.recovery.clone(),
            coin: self.coin,
            identity: self.identity,
            node: self.node,
            payer: self.payer,
            payee: self.payee,
            account: self.account,
            fingerprint: self.fingerprint,
        }
    }

    /// Which chain kind these keys are for.
    pub fn coin(&self) -> CoinType {
        self.coin
    }

    /// This node's name: the identity key, x-only.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Signs with the identity key.
    pub fn sign(&self, digest: &Digest) -> Signature {
        self.signer.sign(&self.identity, digest)
    }

    /// Signs with other keys, such as those of a channel.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// The Noise static secret.
    pub fn session_static(&self) -> &SessionStatic {
        &self.session
    }

    /// The key that seals recovery data.
    pub fn recovery(&self) -> &RecoveryKey {
        &self.recovery
    }

    /// The keys of one side of one simplex. Takes two derivations: keep the result with the channel.
    ///
    /// # Errors
    /// [`KeyError::Index`] from 2^31 on.
    pub fn channel(&self, role: Role, index: u32) -> Result<ChannelKeys, KeyError> {
        let branch = match role {
            Role::Payer => &self.payer,
            Role::Payee => &self.payee,
        };
        let channel = descend(&self.signer, branch, &[index])?;
        Ok(ChannelKeys {
            funding: descend(&self.signer, &channel, &[0])?.to_keypair(self.signer.context()),
        })
    }

    /// The on-chain wallet's account.
    pub fn account(&self) -> Account {
        Account {
            external: self.descriptor(0),
            internal: self.descriptor(1),
            xprv: self.account,
        }
    }

    fn descriptor(&self, chain: u8) -> Zeroizing<String> {
        let [a, b, c, d] = self.fingerprint;
        let body = Zeroizing::new(format!(
            "tr([{a:02x}{b:02x}{c:02x}{d:02x}/86'/{}'/0']{}/{chain}/*)",
            self.coin.index(),
            self.account
        ));
        let sum = super::descriptor::checksum(&body).unwrap_or_default();
        Zeroizing::new(format!("{}#{sum}", body.as_str()))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.identity.non_secure_erase();
        for node in [&mut self.payer, &mut self.payee, &mut self.account] {
            node.private_key.non_secure_erase();
            node.chain_code = ChainCode::from([0; 32]);
        }
    }
}

impl SessionStatic {
    /// The secret scalar, for the Noise handshake.
    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.0
    }
}

impl RecoveryKey {
    /// The 32 secret bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl CoinType {
    /// BIP44's number of the coin, without the hardening bit.
    pub const fn index(self) -> u32 {
        match self {
            CoinType::Bitcoin => 0,
            CoinType::Test => 1,
        }
    }

    /// How extended keys are written.
    pub const fn network(self) -> NetworkKind {
        match self {
            CoinType::Bitcoin => NetworkKind::Main,
            CoinType::Test => NetworkKind::Test,
        }
    }
}

impl Role {
    /// The number of the role in paths, without the hardening bit.
    pub const fn index(self) -> u32 {
        match self {
            Role::Payer => 0,
            Role::Payee => 1,
        }
    }
}

const BRANCH_IDENTITY: u32 = 0;
const BRANCH_SESSION: u32 = 1;
const BRANCH_CHANNEL: u32 = 2;
const BRANCH_RECOVERY: u32 = 3;

/// Walks down hardened steps only.
fn descend(signer: &Signer, from: &Xpriv, path: &[u32]) -> Result<Xpriv, KeyError> {
    path.iter().try_fold(*from, |node, &index| {
        let step = ChildNumber::from_hardened_idx(index).map_err(|_| KeyError::Index(index))?;
        node.derive_priv(signer.context(), &[step])
            .map_err(|_| KeyError::Derivation)
    })
}

/// A secret that is not a secp256k1 key: hashed once more, so that no curve's structure reaches another's use.
fn leaf(tag: &str, node: &Xpriv) -> Zeroizing<[u8; 32]> {
    let scalar = Zeroizing::new(node.private_key.secret_bytes());
    Zeroizing::new(tagged_hash(tag, &[scalar.as_ref()]))
}

macro_rules! redact {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(secret)"))
            }
        }
    )*};
}
redact!(Keys, ChannelKeys, SessionStatic, RecoveryKey, Account);
