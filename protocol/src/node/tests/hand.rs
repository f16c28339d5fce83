//! A client made by hand, that says what it likes. Its session is another than the simulated client's.

use super::*;
use crate::crypto::Verifier;
use crate::money::channel::tx::{PaymentDigest, Terms};
use crate::wire::{BindRequest, Bound, Funded, Hello, OpenAccept, OpenRequest, Payment, Problem, read_frame};

/// Somebody with a key of its own.
pub(super) struct Hand {
    keys: Keys,
    pub connection: ConnectionId,
}

/// A channel that it was accepted.
pub(super) struct Accepted {
    pub index: u32,
    pub terms: Terms,
    /// The transaction that would fund it.
    pub tx: Transaction,
    pub outpoint: Outpoint,
}

impl Hand {
    /// Connected and greeted, as one that claims to know this generation of the relay's store.
    pub fn greeted(world: &mut World, seed: u8, seen_generation: u64) -> Hand {
        let keys = Keys::new(&Seed::from_entropy(&[seed; 32]), CoinType::Test).unwrap();
        let mut hand = Hand {
            keys,
            connection: ConnectionId(seed.into()),
        };
        hand.connect(world, hand.connection, seen_generation);
        hand
    }

    pub fn new(world: &mut World, seed: u8) -> Hand {
        Hand::greeted(world, seed, 0)
    }

    pub fn id(&self) -> NodeId {
        self.keys.node()
    }

    /// One more session of the same key; what is said from now on is said there.
    pub fn connect(&mut self, world: &mut World, connection: ConnectionId, seen_generation: u64) {
        let peer = self.id();
        self.connection = connection;
        self.give(world, Input::Connected { connection, peer });
        let hello = Hello {
            genesis: genesis(),
            height: BlockHeight::new(world.height),
            generation: 7,
            seen_generation,
            ext: Default::default(),
        };
        self.say(world, hello);
    }

    fn give(&self, world: &mut World, input: Input<'_>) -> Vec<Message> {
        let now = world.now;
        world.nodes[RELAY].handle(now, input).unwrap();
        self.hear(world)
    }

    /// Says something; gives what is answered once everything that follows was done.
    pub fn say(&self, world: &mut World, message: impl Into<Message>) -> Vec<Message> {
        self.burst(world, [message.into()])
    }

    /// Says several things before anything that the relay wants is done.
    pub fn burst<const N: usize>(&self, world: &mut World, messages: [Message; N]) -> Vec<Message> {
        let (now, connection) = (world.now, self.connection);
        for message in messages {
            let mut frame = Vec::new();
            write_frame(&message, &mut frame);
            let frame = Input::Frame {
                connection,
                frame: &frame,
            };
            world.nodes[RELAY].handle(now, frame).unwrap();
        }
        self.hear(world)
    }

    /// Does what the relay wants; gives what it says in this session.
    pub fn hear(&self, world: &mut World) -> Vec<Message> {
        let mut heard = Vec::new();
        while let Some(action) = world.nodes[RELAY].poll_action() {
            match action {
                Action::Send { connection, frame } if connection != LINK => {
                    if connection == self.connection {
                        heard.push(read_frame(&frame).unwrap());
                    }
                }
                Action::Disconnect { connection, .. } if connection != LINK => {}
                action => world.act(RELAY, action),
            }
        }
        heard
    }

    pub fn payer_key(&self, index: u32) -> NodeId {
        let keys = self.keys.channel(crate::crypto::Role::Payer, index).unwrap();
        NodeId::from_bytes(keys.funding.x_only_public_key().0.serialize())
    }

    pub fn ask(&self, world: &mut World, index: u32) -> Vec<Message> {
        let request = OpenRequest {
            payer_key: self.payer_key(index),
            capacity: Sat::new(50_000),
            expiry: BlockHeight::new(world.height + 1_008),
            ext: Default::default(),
        };
        self.say(world, request)
    }

    /// Asks for a channel and gets it.
    pub fn accepted(&self, world: &mut World, index: u32) -> Accepted {
        let heard = self.ask(world, index);
        let accept = |m: &Message| match m {
            Message::OpenAccept(m) => Some(m.clone()),
            _ => None,
        };
        let Some(OpenAccept {
            payee_key,
            capacity,
            expiry,
            ..
        }) = heard.iter().find_map(accept)
        else {
            panic!("not accepted: {heard:?}")
        };
        let terms = Terms {
            payer_key: *self.payer_key(index).as_bytes(),
            payee_key: *payee_key.as_bytes(),
            capacity,
            expiry,
        };
        let tx = funding(&terms, index);
        let outpoint = Outpoint {
            txid: txid(&tx),
            vout: 0,
        };
        Accepted {
            index,
            terms,
            tx,
            outpoint,
        }
    }

    /// A channel whose funding waits in the mempool, and is named.
    pub fn unconfirmed(&self, world: &mut World, index: u32) -> Accepted {
        let channel = self.accepted(world, index);
        world.mempool.push(channel.tx.clone());
        world.sightings(&channel.tx, None, &[RELAY]);
        self.say(world, self.naming(&channel, channel.outpoint));
        channel
    }

    /// Names an output as a channel's funding, without its transaction.
    pub fn naming(&self, channel: &Accepted, outpoint: Outpoint) -> Message {
        Funded {
            payer_key: self.payer_key(channel.index),
            outpoint,
            tx: Default::default(),
            ext: Default::default(),
        }
        .into()
    }

    /// The same with the transaction that proves it.
    pub fn proof(&self, channel: &Accepted) -> Message {
        Funded {
            payer_key: self.payer_key(channel.index),
            outpoint: channel.outpoint,
            tx: heapless::Vec::from_slice(&serialize(&channel.tx)).unwrap(),
            ext: Default::default(),
        }
        .into()
    }

    /// A payment over a channel that is funded as it was accepted.
    pub fn payment(&self, channel: &Accepted, short: u16, sheet: u8, total: u64) -> Message {
        let verifier = Verifier::new();
        let digest = PaymentDigest::new(verifier.context(), &channel.terms, channel.outpoint).unwrap();
        let keys = self.keys.channel(crate::crypto::Role::Payer, channel.index);
        let total = Msat::new(total);
        let context = self.keys.signer().context();
        let signature = digest
            .sign_payment(context, &keys.unwrap().funding, total.to_sat_ceil())
            .unwrap();
        Payment {
            channel: short,
            account: ACCESS,
            sheet,
            total,
            signature: Signature(signature),
        }
        .into()
    }
}

/// A transaction that pays the channel; another one for each number.
pub(super) fn funding(terms: &Terms, number: u32) -> Transaction {
    let script = terms.funding_output(Verifier::new().context()).unwrap();
    let output = TxOut {
        value: Amount::from_sat(terms.capacity.value()),
        script_pubkey: script.to_script_buf(),
    };
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::from_height(1_000 + number).unwrap(),
        input: Vec::new(),
        output: [output].into(),
    }
}

pub(super) fn bind(channel: u16) -> Message {
    BindRequest {
        account: ACCESS,
        channel,
        class: BindingClass::Address,
        addresses: Default::default(),
        ext: Default::default(),
    }
    .into()
}

/// Why something was refused, in the order in which it was.
pub(super) fn refusals(heard: &[Message]) -> Vec<ErrorCode> {
    let code = |m: &Message| match m {
        Message::Problem(Problem { code, .. }) => Some(*code),
        _ => None,
    };
    heard.iter().filter_map(code).collect()
}

pub(super) fn bound(heard: &[Message]) -> Vec<Bound> {
    let bound = |m: &Message| match m {
        Message::Bound(m) => Some(m.clone()),
        _ => None,
    };
    heard.iter().filter_map(bound).collect()
}
