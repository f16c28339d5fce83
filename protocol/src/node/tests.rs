//! Two nodes in simulated time: a chain that confirms what it is told to, a gate that counts to the byte, a disk per
//! node from which it can be started again at any moment.

mod detach;
mod forged;
mod hand;
mod history;
mod lost;
mod outbid;
mod outpoints;
mod receipts;
mod refused;
mod rooms;
mod strangers;

use super::record::{Table, Write};
use super::*;
use crate::base::{BlockHeight, ByteCount, Duration, Outpoint};
use crate::crypto::{CoinType, Seed};
use crate::market::BuyerState;
use crate::money::channel::tx::txid;
use crate::wire::{BindingClass, Kind};
use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::{Amount, Transaction, TxOut, transaction};
use std::collections::BTreeMap as Map;
use std::vec::Vec;

const LINK: ConnectionId = ConnectionId(1);
const MIB: u64 = 1 << 20;

fn genesis() -> GenesisHash {
    GenesisHash::from_bytes([5; 32])
}

fn payout(byte: u8) -> ScriptBuf {
    ScriptBuf::from_bytes([&[0x51, 0x20][..], &[byte; 32]].concat())
}

fn sheet(price: u64) -> PriceSheet {
    PriceSheet {
        version: 0,
        valid_until: BlockHeight::ZERO,
        up: Msat::new(price),
        down: Msat::new(price),
        per_second: Msat::ZERO,
        free: ByteCount::ZERO,
        window_min: ByteCount::new(128 * 1024),
        window_max: ByteCount::new(64 * MIB),
        class: BindingClass::Address,
    }
}

fn relay_config() -> RelayConfig {
    RelayConfig {
        policy: PayeePolicy::default(),
        sheet: sheet(100_000),
        account: AccountConfig::default(),
        free_total: ByteCount::ZERO,
    }
}

/// What one node has on its disk.
#[derive(Clone, Default)]
struct Disk {
    rows: Map<(Table, Vec<u8>), Vec<u8>>,
    journal: Vec<Vec<u8>>,
    opened: u64,
    writes: usize,
}

impl Disk {
    fn write(&mut self, write: Write) {
        self.writes += 1;
        match write {
            Write::Put { table, key, value } => drop(self.rows.insert((table, key), value)),
            Write::Delete { table, key } => drop(self.rows.remove(&(table, key))),
            Write::DeleteAll { table, prefix } => {
                self.rows
                    .retain(|(t, key), _| *t != table || !key.starts_with(&prefix));
            }
            Write::Journal { entry } => self.journal.push(entry),
        }
    }

    fn rows(&mut self) -> Rows {
        self.opened += 1;
        Rows {
            rows: self
                .rows
                .iter()
                .map(|((t, k), v)| (*t, k.clone(), v.clone()))
                .collect(),
            journal: self.journal.clone(),
            generation: self.opened,
            restored: false,
        }
    }
}

/// One attachment of the simulated gate.
#[derive(Clone, Copy, Default)]
struct Passed {
    limit: u64,
    up: u64,
    down: u64,
    dropped: bool,
}

/// Both nodes and everything around them.
struct World {
    now: Instant,
    height: u32,
    nodes: [Node; 2],
    disks: [Disk; 2],
    gate: Map<u16, Passed>,
    /// The gate closes nothing; how often it was asked to.
    gate_stuck: bool,
    tries: usize,
    /// The client's address is found on another device, once.
    drifts: bool,
    /// Bindings that the client asked for.
    binds: usize,
    /// What a node may hang up for.
    hangs_up: Option<ErrorCode>,
    meter: (u64, u64),
    mempool: Vec<Transaction>,
    confirmed: Vec<(Transaction, u32)>,
    /// Outputs that left the chain for good: nothing that spends them is taken.
    void: Vec<Outpoint>,
    /// Funding output of each slot, per node.
    watched: [Map<Slot, [u8; 32]>; 2],
    events: [Vec<Event>; 2],
    linked: bool,
    /// The node and the number of its write at which the power goes, if it does.
    cut: Option<(usize, usize)>,
    was_cut: Option<usize>,
}

const CLIENT: usize = 0;
const RELAY: usize = 1;

fn start(who: usize, disk: &mut Disk, now: Instant, height: u32) -> Node {
    let keys = Keys::new(&Seed::from_entropy(&[who as u8 + 1; 32]), CoinType::Test).unwrap();
    let config = Config {
        genesis: genesis(),
        payout: payout(who as u8 + 1),
        relay: (who == RELAY).then(relay_config),
        buyer: BuyerConfig::default(),
        minimum: None,
    };
    Node::load(now, config, keys, &disk.rows(), BlockHeight::new(height)).unwrap()
}

impl World {
    fn new() -> World {
        let (now, height) = (Instant::from_micros(1_000_000), 1_000);
        let mut disks = [Disk::default(), Disk::default()];
        let nodes = [
            start(0, &mut disks[0], now, height),
            start(1, &mut disks[1], now, height),
        ];
        let mut world = World {
            now,
            height,
            nodes,
            disks,
            gate: Map::new(),
            gate_stuck: false,
            drifts: false,
            binds: 0,
            hangs_up: None,
            tries: 0,
            meter: (0, 0),
            mempool: Vec::new(),
            confirmed: Vec::new(),
            void: Vec::new(),
            watched: [Map::new(), Map::new()],
            events: [Vec::new(), Vec::new()],
            linked: false,
            cut: None,
            was_cut: None,
        };
        world.tip(CLIENT);
        world.tip(RELAY);
        world
    }

    fn tip(&mut self, who: usize) {
        let height = BlockHeight::new(self.height);
        self.give(who, Input::Chain(ChainEvent::Tip { height }));
    }

    fn link(&mut self) {
        let ids = [self.nodes[0].id(), self.nodes[1].id()];
        self.linked = true;
        for who in [CLIENT, RELAY] {
            self.nodes[who]
                .handle(
                    self.now,
                    Input::Connected {
                        connection: LINK,
                        peer: ids[1 - who],
                    },
                )
                .unwrap();
        }
        self.drain();
    }

    /// Feeds a node and does what it and the other want, until both are quiet.
    fn give(&mut self, who: usize, input: Input<'_>) {
        if self.was_cut.is_some() {
            return;
        }
        self.nodes[who].handle(self.now, input).unwrap();
        self.drain();
    }

    fn command(&mut self, command: Command) -> Result<(), CommandError> {
        let result = self.nodes[CLIENT].handle(self.now, Input::Command(command));
        self.drain();
        result
    }

    fn drain(&mut self) {
        loop {
            let mut quiet = true;
            for who in [CLIENT, RELAY] {
                while let Some(action) = self.nodes[who].poll_action() {
                    quiet = false;
                    self.act(who, action);
                    if self.was_cut.is_some() {
                        return;
                    }
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn act(&mut self, who: usize, action: Action) {
        let now = self.now;
        match action {
            Action::Persist(write) => {
                if self.cut == Some((who, self.disks[who].writes)) {
                    self.was_cut = Some(who);
                    return;
                }
                self.disks[who].write(write);
            }
            Action::Send { frame, .. } if self.linked => {
                let message = crate::wire::read_frame(&frame).unwrap();
                self.binds += usize::from(message.kind() == Kind::BindRequest);
                let _ = self.nodes[1 - who].handle(
                    now,
                    Input::Frame {
                        connection: LINK,
                        frame: &frame,
                    },
                );
            }
            Action::Send { .. } => {}
            Action::Disconnect { code, .. } if self.hangs_up == Some(code) => {
                self.linked = false;
                for node in &mut self.nodes {
                    node.handle(now, Input::Disconnected { connection: LINK })
                        .unwrap();
                }
            }
            Action::Disconnect { code, .. } => panic!("node {who} hung up: {}", code.text()),
            Action::Chain(ChainAction::Watch { slot, output_key, .. }) => {
                if self.watched[who].insert(slot, output_key) != Some(output_key) {
                    // Blocks that are there already are looked at again.
                    for (tx, height) in self.confirmed.clone() {
                        self.sighting(&tx, Some(BlockHeight::new(height)), who, slot, output_key);
                    }
                }
            }
            Action::Chain(ChainAction::Unwatch { slot }) => {
                self.watched[who].remove(&slot);
            }
            Action::Chain(ChainAction::Fund {
                slot,
                output_key,
                value,
                ..
            }) => {
                let script = ScriptBuf::from_bytes([&[0x51, 0x20][..], &output_key].concat());
                let output = TxOut {
                    value: Amount::from_sat(value.value()),
                    script_pubkey: script,
                };
                let lock_time = LockTime::from_height(slot.0).unwrap();
                let tx = Transaction {
                    version: transaction::Version::TWO,
                    lock_time,
                    input: Vec::new(),
                    output: [output].into(),
                };
                let event = ChainEvent::FundingBuilt {
                    slot,
                    outpoint: Outpoint {
                        txid: txid(&tx),
                        vout: 0,
                    },
                    fee: Sat::new(150),
                    tx: serialize(&tx),
                };
                let _ = self.nodes[who].handle(now, Input::Chain(event));
            }
            Action::Chain(ChainAction::Broadcast { tx, .. }) => {
                let tx: Transaction = deserialize(&tx).unwrap();
                let known = self
                    .mempool
                    .iter()
                    .chain(self.confirmed.iter().map(|(t, _)| t))
                    .any(|t| txid(t) == txid(&tx));
                let void = |i: &bitcoin::TxIn| self.void.contains(&i.previous_output.into());
                if !known && !tx.input.iter().any(void) {
                    self.mempool.push(tx.clone());
                    self.sightings(&tx, None, &[CLIENT, RELAY]);
                }
            }
            Action::Attach { client, .. } => {
                self.gate.insert(client, Passed::default());
                let _ = self.nodes[who].handle(
                    now,
                    Input::Attached {
                        client,
                        result: Ok(()),
                    },
                );
            }
            Action::Grant { client, limit } => {
                let passed = self.gate.get_mut(&client).unwrap();
                passed.limit = limit.value();
                passed.dropped = false;
            }
            Action::ReadGate => {
                let readings: Vec<GateReading> = self.gate.iter().map(|(c, p)| reading(*c, p)).collect();
                let _ = self.nodes[who].handle(now, Input::GateReadings { readings: &readings });
            }
            Action::Detach { client } if who == RELAY && self.gate_stuck => {
                self.tries += 1;
                let _ = self.nodes[who].handle(now, Input::DetachFailed { client });
            }
            Action::Detach { client } => {
                let last = self.gate.remove(&client).map(|p| reading(client, &p));
                let _ = self.nodes[who].handle(now, Input::Detached { client, last });
            }
            Action::CheckBinding { client } => {
                if self.drifts {
                    self.drifts = false;
                    let _ = self.nodes[who].handle(now, Input::Drift { client });
                }
            }
            Action::ReadMeter => {
                let (up, down) = (ByteCount::new(self.meter.0), ByteCount::new(self.meter.1));
                let _ = self.nodes[who].handle(now, Input::MeterReading { up, down });
            }
            Action::Notify(event) => self.events[who].push(event),
        }
    }

    fn sightings(&mut self, tx: &Transaction, height: Option<BlockHeight>, whom: &[usize]) {
        for &who in whom {
            let watched: Vec<(Slot, [u8; 32])> = self.watched[who].iter().map(|(s, k)| (*s, *k)).collect();
            for (slot, key) in watched {
                self.sighting(tx, height, who, slot, key);
            }
        }
    }

    fn sighting(
        &mut self,
        tx: &Transaction,
        height: Option<BlockHeight>,
        who: usize,
        slot: Slot,
        key: [u8; 32],
    ) {
        for (vout, output) in tx.output.iter().enumerate() {
            if output.script_pubkey.as_bytes()[2..] == key {
                let outpoint = Outpoint {
                    txid: txid(tx),
                    vout: vout as u32,
                };
                let value = Sat::new(output.value.to_sat());
                let funded = ChainEvent::Funded {
                    slot,
                    outpoint,
                    value,
                    height,
                };
                let _ = self.nodes[who].handle(self.now, Input::Chain(funded));
            }
        }
        let pays = |o: &Outpoint| {
            let mut all = self.mempool.iter().chain(self.confirmed.iter().map(|(t, _)| t));
            let script = all
                .find(|t| txid(t) == o.txid)
                .map(|t| &t.output[o.vout as usize].script_pubkey);
            script.is_some_and(|s| s.as_bytes()[2..] == key)
        };
        let inputs = tx.input.iter().map(|i| Outpoint::from(i.previous_output));
        for outpoint in inputs.filter(pays).collect::<Vec<_>>() {
            let spent = ChainEvent::Spent {
                slot,
                outpoint,
                txid: txid(tx),
                tx: serialize(tx),
                height,
            };
            let _ = self.nodes[who].handle(self.now, Input::Chain(spent));
        }
    }

    fn mine(&mut self, blocks: u32) {
        self.mine_before(blocks, &[CLIENT, RELAY]);
    }

    /// Blocks that only some of the nodes hear of.
    fn mine_before(&mut self, blocks: u32, whom: &[usize]) {
        for _ in 0..blocks {
            self.height += 1;
            let block = std::mem::take(&mut self.mempool);
            for tx in block {
                self.sightings(&tx, Some(BlockHeight::new(self.height)), whom);
                self.confirmed.push((tx, self.height));
                self.drain();
            }
            whom.iter().for_each(|who| self.tip(*who));
        }
    }

    /// Sends packets down to the client for a while, `rate` bytes a second, with timers running.
    fn traffic(&mut self, seconds: u64, rate: u64) {
        const STEP: u64 = 10_000;
        for _ in 0..seconds * (1_000_000 / STEP) {
            self.now = self.now + Duration::from_micros(STEP);
            let mut left = rate * STEP / 1_000_000;
            while left > 0 {
                let packet = left.min(1_500);
                left -= packet;
                for passed in self.gate.values_mut() {
                    if passed.up + passed.down + packet <= passed.limit {
                        passed.down += packet;
                        self.meter.1 += packet;
                    } else {
                        passed.dropped = true;
                    }
                }
            }
            for who in [CLIENT, RELAY] {
                if self.nodes[who].next_timeout().is_some_and(|at| at <= self.now) {
                    self.give(who, Input::Tick);
                }
                if self.was_cut.is_some() {
                    return;
                }
            }
        }
    }

    /// The power of one node goes and comes back: everything but its disk is gone. The kernel of a relay whose daemon
    /// died still counts; after a power cut it does not.
    fn restart(&mut self, who: usize, kernel_lives: bool) {
        self.was_cut = None;
        self.cut = None;
        // What it still wanted to do is not done.
        while self.nodes[who].poll_action().is_some() {}
        self.unlink_quietly(who);
        let survivors = if who == RELAY {
            std::mem::take(&mut self.gate)
        } else {
            Map::new()
        };
        self.nodes[who] = start(who, &mut self.disks[who], self.now, 0);
        let attachments = self.nodes[who].attachments();
        for client in attachments {
            let last = survivors
                .get(&client)
                .filter(|_| kernel_lives)
                .map(|p| reading(client, p));
            let answer = if self.gate_stuck {
                Input::DetachFailed { client }
            } else {
                Input::Detached { client, last }
            };
            self.give(who, answer);
        }
        self.drain();
        for (tx, height) in self.confirmed.clone() {
            self.sightings(&tx, Some(BlockHeight::new(height)), &[who]);
        }
        for tx in self.mempool.clone() {
            self.sightings(&tx, None, &[who]);
        }
        self.tip(who);
    }

    fn unlink_quietly(&mut self, who: usize) {
        self.linked = false;
        self.give(1 - who, Input::Disconnected { connection: LINK });
    }

    fn buy(&mut self, mib: u64) {
        let bytes = Some(ByteCount::new(mib * MIB));
        self.command(Command::Buy {
            connection: LINK,
            bytes,
            max: Msat::new(40_000_000),
        })
        .unwrap();
    }

    /// A channel, or one more, funded deep.
    fn open_channel(&mut self) {
        self.command(Command::Open {
            connection: LINK,
            capacity: Sat::new(50_000),
            lifetime: None,
        })
        .unwrap();
        self.mine(7);
    }

    /// Linked, offer known, channel open and deep.
    fn ready() -> World {
        let mut world = World::new();
        world.link();
        world.command(Command::AskOffer { connection: LINK }).unwrap();
        world.open_channel();
        world
    }

    /// A message that the other node never sent.
    fn forge(&mut self, to: usize, message: impl Into<Message>) {
        let mut frame = Vec::new();
        write_frame(&message.into(), &mut frame);
        self.give(
            to,
            Input::Frame {
                connection: LINK,
                frame: &frame,
            },
        );
    }

    fn total(&self, who: usize) -> u64 {
        self.nodes[who].channels().iter().map(|c| c.total.value()).sum()
    }

    fn passed(&self) -> u64 {
        self.meter.0 + self.meter.1
    }
}

fn reading(client: u16, p: &Passed) -> GateReading {
    GateReading {
        client,
        up: ByteCount::new(p.up),
        down: ByteCount::new(p.down),
        exhausted: p.dropped,
    }
}

#[test]
fn a_sale_from_hello_to_settlement() {
    let mut world = World::ready();
    assert_eq!(world.nodes[RELAY].channels()[0].state, "open");
    world.buy(20);
    world.traffic(20, 2 * MIB);
    let bought = 20 * MIB;
    assert!(world.passed() <= bought, "nothing unpaid passes");
    assert!(
        bought - world.passed() < 1_500,
        "less than a packet is stranded: {}",
        bought - world.passed()
    );
    assert_eq!(world.total(CLIENT), 2_000_000);
    assert_eq!(world.total(RELAY), 2_000_000);
    assert_eq!(world.nodes[CLIENT].purchases()[0].1.state, BuyerState::Done);

    // Tops up and goes on.
    world.buy(1);
    world.traffic(3, 2 * MIB);
    assert!(bought + MIB - world.passed() < 1_500);
    assert_eq!(world.total(RELAY), 2_100_000);

    let slot = world.nodes[CLIENT].channels()[0].slot;
    world.command(Command::Close { slot }).unwrap();
    let settlement = world
        .mempool
        .iter()
        .find(|t| !t.input.is_empty())
        .cloned()
        .expect("a settlement is on its way");
    world.mine(7);
    let fee = 205;
    let to = |script: ScriptBuf| {
        settlement
            .output
            .iter()
            .find(|o| o.script_pubkey == script)
            .map(|o| o.value.to_sat())
    };
    assert_eq!(
        to(payout(2)),
        Some(2_100 - fee),
        "the relay has what was paid, less the fee"
    );
    assert_eq!(
        settlement.output.iter().map(|o| o.value.to_sat()).sum::<u64>(),
        50_000 - fee,
        "the client has the rest"
    );
    assert!(
        world.nodes[CLIENT].channels().iter().all(|c| c.state == "over"),
        "{:?}",
        world.nodes[CLIENT].channels()
    );
    assert!(world.nodes[RELAY].channels().iter().all(|c| c.state == "over"));
}

#[test]
fn a_purchase_goes_on_by_itself_once_the_session_is_back() {
    let mut world = World::ready();
    world.buy(6);
    world.traffic(1, 2 * MIB);
    let before = world.passed();
    world.restart(RELAY, false);
    world.link();
    world.traffic(10, 2 * MIB);
    assert!(world.passed() > before, "stuck at {before} bytes");
    assert_eq!(world.nodes[CLIENT].purchases()[0].1.state, BuyerState::Done);
    assert_eq!(world.total(CLIENT), 600_000);
}

const WANTED: u64 = 6 * MIB;
const PRICE: u64 = 100_000;
/// The largest window that the default sizing gives at the rate of these tests: what a relay may have at stake.
const WINDOW: u64 = 4 * MIB;

/// Goes for a whole purchase of [`WANTED`] bytes, whatever state both nodes are in.
#[test]
fn a_purchase_that_was_refused_while_the_gate_was_down_goes_on_by_itself_once_it_works() {
    let mut world = World::ready();
    world.give(RELAY, Input::GateFailed);
    world.buy(8);
    let refused = |e: &Event| matches!(e, Event::PeerProblem { code, .. } if *code == ErrorCode::GateDown);
    assert!(
        world.events[CLIENT].iter().any(refused),
        "{:?}",
        world.events[CLIENT]
    );
    world.traffic(5, 1_000_000);
    assert_eq!(
        (world.total(CLIENT), world.passed()),
        (0, 0),
        "nothing is paid to a closed gate"
    );
    world.give(RELAY, Input::GateRestored);
    world.traffic(12, 1_000_000);
    assert!(world.total(CLIENT) > 0 && world.passed() > 0);
}

fn go_on(world: &mut World) {
    if !world.linked {
        world.link();
    }
    let _ = world.command(Command::AskOffer { connection: LINK });
    let client = &world.nodes[CLIENT];
    if client.paying_channel(&world.nodes[RELAY].id()).is_none() {
        let _ = world.command(Command::Open {
            connection: LINK,
            capacity: Sat::new(50_000),
            lifetime: None,
        });
    }
    if world.was_cut.is_none() {
        world.mine(7);
    }
    let paid = world.total(CLIENT) / PRICE * MIB;
    let bytes = Some(ByteCount::new(WANTED - paid));
    let max = Msat::new(WANTED / MIB * PRICE - world.total(CLIENT));
    if paid < WANTED {
        let _ = world.command(Command::Buy {
            connection: LINK,
            bytes,
            max,
        });
    }
    world.traffic(6, 2 * MIB);
}

/// Runs a purchase with the power of `who` going at its write number `at`. Gives whether it went at all.
fn purchase_with_a_cut(who: usize, at: usize, kernel_lives: bool) -> bool {
    let mut world = World::new();
    world.cut = Some((who, world.disks[who].writes + at));
    go_on(&mut world);
    let cut = world.was_cut.is_some();
    for _ in 0..4 {
        if world.was_cut.is_some() {
            world.restart(who, kernel_lives);
        }
        go_on(&mut world);
    }
    let what = std::format!("node {who} cut at write {at}, kernel {kernel_lives}");
    let price = WANTED / MIB * PRICE;
    assert_eq!(
        world.total(CLIENT),
        price,
        "{what}: the client pays once for what it wanted"
    );
    assert_eq!(
        world.total(RELAY),
        price,
        "{what}: the relay holds all that was paid"
    );
    let unpaid = world.passed().saturating_sub(WANTED);
    let bound = if kernel_lives { 0 } else { WINDOW };
    assert!(unpaid <= bound, "{what}: {unpaid} unpaid bytes passed");
    let stranded = WANTED.saturating_sub(world.passed());
    assert!(stranded < 1_500, "{what}: {stranded} paid bytes were not served");
    cut
}

fn cut_everywhere(who: usize, kernel_lives: bool) -> usize {
    (0..500)
        .take_while(|at| purchase_with_a_cut(who, *at, kernel_lives))
        .count()
}

#[test]
fn the_client_is_cut_at_every_write_of_a_purchase_and_nobody_pays_twice() {
    assert_eq!(cut_everywhere(CLIENT, true), 12, "number of crash points");
}

#[test]
fn the_relay_is_killed_at_every_write_of_a_purchase_and_no_credit_is_lost() {
    assert_eq!(cut_everywhere(RELAY, true), 15, "number of crash points");
}

#[test]
fn the_relay_loses_power_at_every_write_of_a_purchase_and_at_most_one_window() {
    assert_eq!(cut_everywhere(RELAY, false), 15, "number of crash points");
}

#[test]
fn nobody_goes_back_to_an_earlier_channel_to_have_its_payments_counted_again() {
    let mut world = World::ready();
    world.buy(2);
    world.traffic(4, 2 * MIB);
    world.open_channel();
    let bind = |world: &mut World, channel: u16| {
        let request = crate::wire::BindRequest {
            account: AccountId(0),
            channel,
            class: BindingClass::Address,
            addresses: Default::default(),
            ext: Default::default(),
        };
        let mut frame = Vec::new();
        write_frame(&request.into(), &mut frame);
        world.give(
            RELAY,
            Input::Frame {
                connection: LINK,
                frame: &frame,
            },
        );
    };
    // The second channel pays now; then the client names the first one again.
    bind(&mut world, 1);
    let before = world.nodes[RELAY].accounts(world.now)[0].usage;
    bind(&mut world, 0);
    let refusal = |e: &Event| {
        matches!(
            e,
            Event::PeerProblem {
                code: ErrorCode::BindingRefused,
                ..
            }
        )
    };
    assert!(world.events[CLIENT].iter().any(refusal));
    let after = world.nodes[RELAY].accounts(world.now)[0].usage;
    assert_eq!((after.paid, after.granted), (before.paid, before.granted));
}

#[test]
fn a_stranger_who_claims_to_know_a_younger_store_changes_nothing() {
    let mut world = World::ready();
    let stranger = ConnectionId(9);
    let peer = NodeId::from_bytes([3; 32]);
    let relay = &mut world.nodes[RELAY];
    relay
        .handle(
            world.now,
            Input::Connected {
                connection: stranger,
                peer,
            },
        )
        .unwrap();
    let hello = crate::wire::Hello {
        genesis: genesis(),
        height: BlockHeight::new(1),
        generation: 7,
        seen_generation: u64::MAX - 1,
        ext: Default::default(),
    };
    let mut frame = Vec::new();
    write_frame(&hello.into(), &mut frame);
    relay
        .handle(
            world.now,
            Input::Frame {
                connection: stranger,
                frame: &frame,
            },
        )
        .unwrap();
    let written = std::iter::from_fn(|| relay.poll_action()).any(|a| matches!(a, Action::Persist(_)));
    assert!(!written, "strangers leave no row");
    assert_eq!(world.nodes[RELAY].channels()[0].state, "open");
}

#[test]
fn payers_are_told_what_is_taken_when_it_changes_and_not_with_every_block() {
    let said = |world: &World| {
        let ready = |e: &&Event| matches!(e, Event::ChannelReady { .. });
        world.events[CLIENT].iter().filter(ready).count()
    };
    let mut world = World::ready();
    // The unconfirmed credit of a funding that was sighted before it was named, and the capacity.
    assert_eq!(said(&world), 2);
    world.buy(20);
    world.traffic(15, 2 * MIB);
    let before = said(&world);
    world.mine(5);
    assert_eq!(said(&world), before, "an open channel");
    let slot = world.nodes[CLIENT].channels()[0].slot;
    world.command(Command::Close { slot }).unwrap();
    world.mine(1);
    let closed = said(&world);
    assert!(closed <= before + 1, "{closed}");
    world.mine(20);
    assert_eq!(said(&world), closed, "a spent channel");
}

#[test]
fn who_stops_buying_gives_its_binding_back_and_goes_on_later_with_its_credit() {
    let mut world = World::ready();
    world.buy(8);
    world.traffic(2, MIB);
    let used = world.passed();
    world.command(Command::StopBuying { connection: LINK }).unwrap();
    assert_eq!(world.nodes[RELAY].accounts(world.now)[0].gate, None);
    assert!(world.gate.is_empty());
    // Neither side has anything to wake up for.
    assert_eq!(world.nodes[CLIENT].next_timeout(), None);
    assert_eq!(world.nodes[RELAY].next_timeout(), None);
    world.traffic(60, MIB);
    assert_eq!(world.passed(), used);
    let paid = world.total(CLIENT);
    let credit = paid / PRICE * MIB - used;
    world.buy(credit / MIB);
    world.traffic(10, MIB);
    assert!(world.passed() - used >= credit / MIB * MIB - 1_500);
    assert_eq!(world.total(CLIENT), paid, "the credit is used first");
}

#[test]
fn a_purchase_that_is_stopped_while_it_is_being_bound_leaves_nothing_bound() {
    let mut world = World::ready();
    let bytes = Some(ByteCount::new(MIB));
    let max = Msat::new(40_000_000);
    let connection = LINK;
    let client = &mut world.nodes[CLIENT];
    for command in [
        Command::Buy {
            connection,
            bytes,
            max,
        },
        Command::StopBuying { connection },
    ] {
        client.handle(world.now, Input::Command(command)).unwrap();
    }
    // The question to bind is under way; the answer finds nobody who buys.
    world.drain();
    assert!(world.gate.is_empty());
    assert_eq!(world.nodes[CLIENT].next_timeout(), None);
    assert_eq!(world.total(CLIENT), 0);
}
