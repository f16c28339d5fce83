//! Both nodes and everything around them.

use super::disk::Disk;
use crate::parties::{self, GENESIS};
use bitcoin::{ScriptBuf, Transaction};
use std::collections::{BTreeMap, VecDeque};
use turnpike_protocol::base::{
    BlockHeight, ByteCount, ConnectionId, Duration, Instant, Msat, Outpoint, Slot,
};
use turnpike_protocol::market::{AccountConfig, BuyerConfig};
use turnpike_protocol::money::chain::ChainEvent;
use turnpike_protocol::money::channel::PayeePolicy;
use turnpike_protocol::node::{Config, GateReading, Input, Node, RelayConfig};
use turnpike_protocol::wire::{BindingClass, PriceSheet};

pub(super) const CLIENT: usize = 0;
pub(super) const RELAY: usize = 1;
pub(super) const BOTH: [usize; 2] = [CLIENT, RELAY];
pub(super) const MIB: u64 = 1 << 20;
/// The largest window of every sheet: what a power cut of the relay may forget.
pub(super) const WINDOW_MAX: u64 = 8 * MIB;
/// What all keys together get for nothing, where a sheet gives anything.
pub(super) const FREE: u64 = 4 * MIB;

/// One attachment of the simulated gate.
#[derive(Clone, Copy, Default)]
pub(super) struct Passed {
    pub limit: u64,
    pub up: u64,
    pub down: u64,
    pub dropped: bool,
}

impl Passed {
    pub fn reading(&self, client: u16) -> GateReading {
        let (up, down) = (ByteCount::new(self.up), ByteCount::new(self.down));
        GateReading {
            client,
            up,
            down,
            exhausted: self.dropped,
        }
    }
}

/// What fails at the moment.
#[derive(Clone, Copy, Default)]
pub(super) struct Faults {
    pub attach: bool,
    pub read: bool,
    pub detach: bool,
    pub fund: bool,
    pub meter: bool,
}

pub(super) struct World {
    /// Each node's own clock.
    pub now: [Instant; 2],
    pub nodes: [Node; 2],
    pub disks: [Disk; 2],
    /// The newest session, and those that the relay does not know to be dead.
    pub link: Option<ConnectionId>,
    pub stale: Vec<ConnectionId>,
    pub links: u64,
    /// Frames on their way to each node.
    pub frames: [VecDeque<Vec<u8>>; 2],
    pub hold: bool,
    pub gate: BTreeMap<u16, Passed>,
    /// Bytes that passed attachments that are gone.
    pub passed_before: u64,
    pub meter: (u64, u64),
    pub faults: Faults,
    pub height: u32,
    pub highest: u32,
    pub dark: [bool; 2],
    pub mempool: Vec<Transaction>,
    pub confirmed: Vec<(Transaction, u32)>,
    pub void: Vec<Outpoint>,
    /// Output keys that each node watches.
    pub watched: [BTreeMap<Slot, [u8; 32]>; 2],
    /// Actions that are still done before the power of a node goes.
    pub cut: Option<(usize, u8)>,
    /// A node that lost its power while others acted.
    pub fallen: Option<usize>,
    /// Frames of this node were changed: it is a liar.
    pub lied: [bool; 2],
    /// The relay changed its prices, perhaps without the client hearing of it at once.
    pub repriced: bool,
    /// The relay changed its prices.
    pub sold: bool,
    /// Money that the relay had counted on is gone.
    pub lost: bool,
    /// A clock went back while its node ran.
    pub clocks: bool,
    /// All that the client's owner allowed to be spent.
    pub allowed: u64,
    /// The lowest price of a byte of any sheet so far, millisatoshi per MiB.
    pub cheapest: u64,
    pub free: bool,
    pub exempt: bool,
    /// Windows whose use the relay may have forgotten.
    pub forgotten: u64,
}

/// How the relay sells: four sheets.
pub(super) fn selling(kind: u8) -> RelayConfig {
    let (up, down, per_second, free) = match kind % 4 {
        0 => (100_000, 100_000, 0, 0),
        1 => (200_000, 50_000, 0, 0),
        2 => (100_000, 100_000, 500, 0),
        _ => (100_000, 100_000, 0, MIB),
    };
    let sheet = PriceSheet {
        version: 0,
        valid_until: BlockHeight::ZERO,
        up: Msat::new(up),
        down: Msat::new(down),
        per_second: Msat::new(per_second),
        free: ByteCount::new(free),
        window_min: ByteCount::new(128 * 1024),
        window_max: ByteCount::new(WINDOW_MAX),
        class: BindingClass::Address,
    };
    RelayConfig {
        policy: PayeePolicy::default(),
        sheet,
        account: AccountConfig::default(),
        free_total: ByteCount::new(if free > 0 { FREE } else { 0 }),
    }
}

/// Starts a node from its disk.
pub(super) fn start(who: usize, disk: &mut Disk, now: Instant) -> Node {
    let config = Config {
        genesis: GENESIS,
        payout: payout(who),
        relay: (who == RELAY).then(|| selling(0)),
        buyer: BuyerConfig::default(),
        minimum: None,
    };
    Node::load(
        now,
        config,
        parties::of(who).twin(),
        &disk.open(),
        BlockHeight::ZERO,
    )
    .expect("a node loads what it wrote")
}

pub(super) fn payout(who: usize) -> ScriptBuf {
    ScriptBuf::from_bytes([&[0x51, 0x20][..], &[who as u8 + 1; 32]].concat())
}

impl World {
    /// Two fresh nodes that see the chain and have not met.
    pub fn new() -> World {
        let now = Instant::from_micros(1_000_000);
        let mut disks = [Disk::default(), Disk::default()];
        let nodes = BOTH.map(|who| start(who, &mut disks[who], now));
        let mut world = World {
            now: [now; 2],
            nodes,
            disks,
            link: None,
            stale: Vec::new(),
            links: 0,
            frames: Default::default(),
            hold: false,
            gate: BTreeMap::new(),
            passed_before: 0,
            meter: (0, 0),
            faults: Faults::default(),
            height: 1_000,
            highest: 1_000,
            dark: [false; 2],
            mempool: Vec::new(),
            confirmed: Vec::new(),
            void: Vec::new(),
            watched: Default::default(),
            cut: None,
            fallen: None,
            lied: [false; 2],
            repriced: false,
            lost: false,
            sold: false,
            clocks: false,
            allowed: 0,
            cheapest: 100_000,
            free: false,
            exempt: false,
            forgotten: 0,
        };
        BOTH.into_iter().for_each(|who| world.tip(who));
        world
    }

    /// Feeds a node, and does what it and the other want until both are quiet.
    pub fn give(&mut self, who: usize, input: Input<'_>) {
        self.feed(who, input);
        self.pump();
    }

    /// Feeds a node. Only commands may fail, and they do not come this way.
    pub fn feed(&mut self, who: usize, input: Input<'_>) {
        let result = self.nodes[who].handle(self.now[who], input);
        assert_eq!(result, Ok(()), "an input that is no command failed");
    }

    pub fn tip(&mut self, who: usize) {
        if !self.dark[who] {
            let height = BlockHeight::new(self.height);
            self.give(who, Input::Chain(ChainEvent::Tip { height }));
        }
    }

    /// Time passes; timers run when they are due.
    pub fn pass(&mut self, time: Duration) {
        BOTH.into_iter()
            .for_each(|who| self.now[who] = self.now[who] + time);
        // A timer that is due again at once would never let time go on.
        for _ in 0..8 {
            let due = |w: &World, who: usize| w.nodes[who].next_timeout().is_some_and(|at| at <= w.now[who]);
            let late: Vec<usize> = BOTH.into_iter().filter(|who| due(self, *who)).collect();
            if late.is_empty() {
                break;
            }
            late.into_iter().for_each(|who| self.give(who, Input::Tick));
        }
    }

    /// The power of one node goes and comes back: everything but its disk is gone. `kernel` says whether only the daemon
    /// died, so that the kernel's gate counts on; `clock` whether its clock starts anew.
    pub fn restart(&mut self, who: usize, kernel: bool, clock: bool) {
        self.cut = self.cut.filter(|(cut, _)| *cut != who);
        self.unlink();
        self.frames.iter_mut().for_each(VecDeque::clear);
        if clock {
            self.now[who] = Instant::from_micros(1_000);
        }
        if who == RELAY && !kernel {
            // Also what an attachment passed that was closed just before, and not yet written as billed.
            self.forgotten += 1;
            self.passed_before += self.gate.values().map(|p| p.up + p.down).sum::<u64>();
            self.gate.clear();
        }
        self.watched[who].clear();
        self.nodes[who] = start(who, &mut self.disks[who], self.now[who]);
        if who == RELAY {
            // What the shell finds in the kernel is closed and told, before anything else.
            for client in self.nodes[who].attachments() {
                self.close_gate(client);
            }
            self.passed_before += self.gate.values().map(|p| p.up + p.down).sum::<u64>();
            self.gate.clear();
        }
        self.pump();
        self.tip(who);
    }

    /// The session ends, for both.
    pub fn unlink(&mut self) {
        self.repriced |= self.sold;
        let dead: Vec<ConnectionId> = self.link.take().into_iter().chain(self.stale.drain(..)).collect();
        for connection in dead {
            for who in BOTH {
                self.feed(who, Input::Disconnected { connection });
            }
        }
        self.frames.iter_mut().for_each(VecDeque::clear);
    }
}
