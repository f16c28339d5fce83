//! What the owner can ask of a node. An error means that nothing was changed.

use super::{Node, RelayConfig};
use crate::base::limits::{DEFAULT_LIFETIME, MAX_CAPACITY_SAT, MAX_LIFETIME, MIN_CAPACITY_SAT, MIN_LIFETIME};
use crate::base::{ByteCount, ConnectionId, FeeRate, Instant, Msat, NodeId, Sat, Slot};
use crate::market::{AccountInput, Standing};
use crate::money::channel::{PayeeInput, PayerInput};
use crate::wire::OfferRequest;
use alloc::vec::Vec;
use thiserror::Error;

/// A wish of the owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Ask a relay what it sells; the answer is [`super::Event::Offer`].
    AskOffer {
        /// The relay's session.
        connection: ConnectionId,
    },
    /// Open a channel to a relay.
    Open {
        /// The relay's session.
        connection: ConnectionId,
        /// How much to lock.
        capacity: Sat,
        /// For how many blocks at worst; `None` for a week.
        lifetime: Option<u32>,
    },
    /// Buy bandwidth from a relay, paying window by window.
    Buy {
        /// The relay's session.
        connection: ConnectionId,
        /// How much more to buy; `None` for as much as `max` pays.
        bytes: Option<ByteCount>,
        /// The most to spend.
        max: Msat,
    },
    /// Stop buying; credit is kept.
    StopBuying {
        /// The relay's session.
        connection: ConnectionId,
    },
    /// Close a channel, whichever side of it we are.
    Close {
        /// Its row.
        slot: Slot,
    },
    /// Close every channel; those in which we are paid are settled together.
    CloseAll,
    /// Raise the fee of the settlement that holds this channel.
    RaiseFee {
        /// Its row.
        slot: Slot,
        /// The rate wanted.
        rate: FeeRate,
    },
    /// Change prices, bounds or settings of selling.
    Sell(RelayConfig),
    /// Serve a client key for money, for nothing, or not at all.
    Stand {
        /// The key.
        client: NodeId,
        /// How.
        standing: Standing,
    },
}

/// Why a wish was not fulfilled. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// No such session.
    #[error("there is no session with this relay: connect first")]
    NotConnected,
    /// The relay's offer is not known yet.
    #[error("the relay's offer is not known yet: ask for it first")]
    NoOffer,
    /// Capacity out of bounds.
    #[error("capacity must be {MIN_CAPACITY_SAT} to {MAX_CAPACITY_SAT} sat, and within the relay's bounds")]
    Capacity,
    /// Lifetime out of bounds.
    #[error("lifetime must be {MIN_LIFETIME} to {MAX_LIFETIME} blocks, and within the relay's bounds")]
    Lifetime,
    /// No height known.
    #[error("the chain's height is not known yet: wait for the chain back end")]
    NoHeight,
    /// Fees would eat it.
    #[error("on-chain fees would eat over a fifth of this channel now: wait, or open a larger one")]
    FeesTooHigh,
    /// Key indexes used up.
    #[error("all channel keys of this seed are used up: start with a new seed")]
    NoKeys,
    /// No channel to pay from.
    #[error("no open channel to this relay: open one first")]
    NoChannel,
    /// No such channel.
    #[error("there is no channel with this number")]
    UnknownChannel,
    /// The channel cannot do that now.
    #[error("the channel is not in a state for that: see `turnpike channel list`")]
    WrongState,
    /// The settlement cannot pay a higher fee.
    #[error("the settlement cannot pay more than it does, or is not waiting for a block")]
    CannotRaise,
    /// Prices refused.
    #[error("the prices are refused: {0}")]
    Prices(#[from] crate::market::SheetError),
    /// The policy contradicts itself.
    #[error("{0}")]
    Policy(#[from] crate::money::channel::PolicyError),
    /// No such client.
    #[error("no client with this key was ever served here")]
    UnknownClient,
    /// A purchase is under way.
    #[error("a purchase from this relay is under way: stop it first")]
    Busy,
}

impl Node {
    pub(super) fn command(&mut self, now: Instant, command: Command) -> Result<(), CommandError> {
        match command {
            Command::AskOffer { connection } => {
                self.connections
                    .get(&connection)
                    .filter(|p| p.greeted)
                    .ok_or(CommandError::NotConnected)?;
                self.send(
                    connection,
                    OfferRequest {
                        ext: Default::default(),
                    },
                );
                Ok(())
            }
            Command::Open {
                connection,
                capacity,
                lifetime,
            } => self.open(connection, capacity, lifetime.unwrap_or(DEFAULT_LIFETIME)),
            Command::Buy {
                connection,
                bytes,
                max,
            } => self.buy(now, connection, bytes, max),
            Command::StopBuying { connection } => self.stop_buying(now, connection),
            Command::Close { slot } => self.close(now, slot),
            Command::CloseAll => {
                let slots: Vec<Slot> = self.payees.keys().chain(self.payers.keys()).copied().collect();
                for slot in slots {
                    let _ = self.close(now, slot);
                }
                Ok(())
            }
            Command::RaiseFee { slot, rate } => {
                let raised = self.settler.raise(&self.keys, slot, rate).unwrap_or(false);
                self.drain_settler();
                if raised {
                    Ok(())
                } else {
                    Err(CommandError::CannotRaise)
                }
            }
            Command::Sell(relay) => {
                relay.policy.check()?;
                self.sell(relay)?;
                self.sheet_changed(now);
                Ok(())
            }
            Command::Stand { client, standing } => {
                if !self.clients.contains_key(&client) {
                    return Err(CommandError::UnknownClient);
                }
                self.account(now, client, AccountInput::Standing(standing));
                Ok(())
            }
        }
    }

    fn close(&mut self, now: Instant, slot: Slot) -> Result<(), CommandError> {
        if let Some(payee) = self.payees.get(&slot) {
            let peer = payee.record().peer;
            if self.clients.get(&peer).is_some_and(|c| c.paying == Some(slot)) {
                self.account(now, peer, AccountInput::ReceiptAsked);
                self.account(now, peer, AccountInput::Detach);
            }
            return self
                .payee(now, slot, PayeeInput::Close)
                .map(|_| ())
                .map_err(|_| CommandError::WrongState);
        }
        if self.payers.contains_key(&slot) {
            return self
                .payer(slot, PayerInput::Close)
                .map_err(|_| CommandError::WrongState);
        }
        if self.history.contains_key(&slot) {
            return Ok(());
        }
        Err(CommandError::UnknownChannel)
    }
}
