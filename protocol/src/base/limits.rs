//! Every capacity and every money bound, in one place, each with its reason.
//! "Full" is an ordinary error of the operation that met it.

use super::Duration;

/// Heights from here on would be read as seconds by nLockTime and CLTV (BIP65).
pub const MAX_HEIGHT: u32 = 499_999_999;

/// Longest body of a frame in bytes: one funding transaction fits, and a flood stays cheap to buffer.
pub const MAX_BODY: usize = 4_096;
/// Frame header: version byte and kind (both one byte today; the kind may grow to three).
pub const MAX_FRAME: usize = MAX_BODY + 4;
/// Largest raw funding transaction that a guest may hand to the relay, bytes. 20 inputs fit.
pub const MAX_FUNDING_TX: usize = 3_800;
/// Most extension entries in one message, and bytes in one of them.
pub const MAX_EXT: usize = 4;
/// Bytes of one extension entry's value.
pub const MAX_EXT_VALUE: usize = 64;

/// Confirmation margin per on-chain transaction, blocks (money.md symbol m): six hours, the time that a
/// settlement is given to confirm before its fee is raised.
pub const MARGIN: u32 = 36;
/// Confirmations after which a funding counts as deep, blocks.
pub const DEEP: u32 = 6;
/// From this capacity on, deep means [`MARGIN`] blocks: more value is worth a longer reorganisation.
pub const DEEP_CAPACITY_SAT: u64 = 1_000_000;
/// Longest gap between two looks at the chain while anything is at stake, blocks (money.md symbol p).
pub const LOOK_GAP: u32 = 6;

/// Dust limit of a taproot output at Bitcoin Core's default dust relay fee (330 sat accepted, 329 refused; measured).
pub const DUST_P2TR_SAT: u64 = 330;
/// Channels in one settlement: 60 are 9,099 vB, under the 10,000 vB that policy allows version 3.
pub const MAX_BATCH: usize = 60;

/// Shortest life of a channel, blocks: the funding must be deep before E − 4m and something must be left to trade in.
pub const MIN_LIFETIME: u32 = 6 * MARGIN;
/// Default life of a guest channel, blocks: one week.
pub const DEFAULT_LIFETIME: u32 = 1_008;
/// Longest life of a guest channel, blocks: four weeks; a silent payee locks the capacity for as long.
pub const MAX_LIFETIME: u32 = 4_032;
/// Smallest capacity, satoshi: below, opening and closing cost more than a tenth of it at 3 sat/vB.
pub const MIN_CAPACITY_SAT: u64 = 10_000;
/// Default capacity, satoshi.
pub const DEFAULT_CAPACITY_SAT: u64 = 50_000;
/// Largest capacity, satoshi: what a node on an SD card should at most keep in one channel.
pub const MAX_CAPACITY_SAT: u64 = 10_000_000;
/// Smallest step of one payment, millisatoshi: zero steps would make a signature check free for the payer.
pub const MIN_PAYMENT_MSAT: u64 = 1;
/// How long an acceptance stays good for a funding, blocks: a day of slow blocks.
pub const ACCEPT_BLOCKS: u32 = 144;

/// How long a loss of unconfirmed credit reduces what others are given before their funding is deep, blocks: a day. So
/// that credit is a bound on what a day of double spends costs. With [`ACCEPT_BLOCKS`] and [`DEEP`] it ends before E.
pub const LOSS_BLOCKS: u32 = 4 * MARGIN;

/// Channels that one node holds (payer and payee together).
pub const MAX_CHANNELS: usize = 4_096;
/// Channels that one peer may have open with this node: one in use and one replacing it.
pub const MAX_CHANNELS_PER_PEER: usize = 2;
/// Earlier channels of one client whose money may still be lost: those that wait for a block or to be deep in it. With
/// [`MAX_CHANNELS_PER_PEER`] of them live at a time, more than a few mean that settlements do not confirm.
pub const MAX_EARLIER_CHANNELS: usize = 8;
/// Channels that are over and still listed: some 150 bytes each, and its newest receipts.
pub const MAX_HISTORY: usize = 512;
/// Receipts kept of one channel: each newer one says all that the older ones say, so these are for disputes about
/// when. At one a minute, half an hour.
pub const MAX_RECEIPTS_PER_CHANNEL: u32 = 32;
/// Acceptances without a funding that our own back end has seen: they cost strangers nothing, so they have a room of
/// their own, and the oldest of a peer that is gone makes place for a new one.
pub const MAX_UNFUNDED: usize = 256;
/// Bindings that one key may open within [`BINDS_WITHIN_SECS`]: each makes the relay lay firewall rules (20 ms).
pub const MAX_BINDS: u8 = 5;
/// See [`MAX_BINDS`], seconds.
pub const BINDS_WITHIN_SECS: u64 = 10;
/// Channels that one key may ask for within [`ASKS_WITHIN_SECS`]: each new one is a row on an SD card. A purchase needs one,
/// and one to replace it.
pub const MAX_ASKS: u8 = 6;
/// See [`MAX_ASKS`], seconds.
pub const ASKS_WITHIN_SECS: u64 = 60;
/// Connections that a node serves at once.
pub const MAX_CONNECTIONS: usize = 1_024;
/// How long a handshake may take: a few round trips over the slowest mesh path, retries included. What is half
/// open after that is closed, so that strangers cannot hold connections for nothing.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// First pause before a handshake datagram is sent again; each further pause is twice as long.
pub const HANDSHAKE_RETRY: Duration = Duration::from_millis(500);
/// Counters behind the newest that a datagram session still accepts, once each: as WireGuard has it, enough for the
/// reordering of several queues at full rate.
pub const REPLAY_WINDOW: u64 = 1_984;
/// Epochs of 2^16 datagrams that a session follows the peer ahead at once: an outage during which more were lost
/// ends it. Bounds what a forged counter costs.
pub const MAX_EPOCH_JUMP: u64 = 4;
/// Service accounts of one session.
pub const MAX_ACCOUNTS_PER_SESSION: usize = 4;

/// Smallest window, bytes: 128 KiB, since one offloaded segment of 64 KiB must not strand most of it (DESIGN §5).
pub const MIN_WINDOW: u64 = 128 * 1024;
/// Smallest default window, bytes: 4 MiB keeps payments and their answers under 0.01 % of the bytes.
pub const DEFAULT_WINDOW: u64 = 4 * 1024 * 1024;
/// Largest window, bytes.
pub const MAX_WINDOW: u64 = 4 * 1024 * 1024 * 1024;
/// Highest price, millisatoshi per MiB or per second: one bitcoin. Keeps every product below 2^128.
pub const MAX_PRICE_MSAT: u64 = 100_000_000_000;
/// Largest free allowance, bytes per key and period.
pub const MAX_FREE: u64 = 1 << 40;
/// Longest life of a price sheet, blocks.
pub const MAX_SHEET_BLOCKS: u32 = 1_008;
