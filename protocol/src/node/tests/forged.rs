//! What a relay, or who pretends to be one, says to a client that believes only what is signed and makes sense.

use super::*;
use crate::base::limits::{ACCEPT_BLOCKS, DEEP, LOOK_GAP, MARGIN};
use crate::money::channel::Acceptance;
use crate::money::channel::tx::Terms;
use crate::wire::{OpenAccept, ReceiptRequest, read_frame};

/// A client that asked for a channel of so many blocks, and the acceptance that its relay would give.
fn asked(lifetime: u32) -> (World, Acceptance) {
    let mut world = World::new();
    world.link();
    world.command(Command::AskOffer { connection: LINK }).unwrap();
    world.linked = false;
    let open = Command::Open {
        connection: LINK,
        capacity: Sat::new(50_000),
        lifetime: Some(lifetime),
    };
    world.command(open).unwrap();
    let terms = world.nodes[CLIENT].connections[&LINK].asked.unwrap().terms;
    let keys = world.nodes[RELAY].keys.channel(crate::crypto::Role::Payee, 9);
    let payee_key = keys.unwrap().funding.x_only_public_key().0.serialize();
    let acceptance = Acceptance {
        terms: Terms { payee_key, ..terms },
        accept_until: BlockHeight::new(world.height + 10),
    };
    (world, acceptance)
}

/// As `signer` signs it, in the relay's name.
fn message(world: &World, acceptance: &Acceptance, signer: usize) -> OpenAccept {
    let [client, relay] = &world.nodes;
    let digest = acceptance.digest(genesis(), relay.id(), client.id());
    let terms = acceptance.terms;
    OpenAccept {
        payer_key: NodeId::from_bytes(terms.payer_key),
        payee_key: NodeId::from_bytes(terms.payee_key),
        capacity: terms.capacity,
        expiry: terms.expiry,
        accept_until: acceptance.accept_until,
        signature: Signature(world.nodes[signer].keys.sign(&digest).serialize()),
        ext: Default::default(),
    }
}

/// Says to the client what does not verify: it hangs up.
fn refused(world: &mut World, message: impl Into<Message>) {
    world.linked = true;
    world.hangs_up = Some(ErrorCode::BadSignature);
    world.forge(CLIENT, message);
    assert!(!world.linked, "the client stays");
}

#[test]
fn rule_1_nothing_is_funded_without_the_relays_signature_over_these_very_terms() {
    for what in 0..3 {
        let (mut world, acceptance) = asked(1_008);
        let good = message(&world, &acceptance, RELAY);
        let bad = match what {
            0 => message(&world, &acceptance, CLIENT),
            1 => OpenAccept {
                accept_until: BlockHeight::new(world.height + 11),
                ..good
            },
            _ => {
                world.forge(CLIENT, good);
                assert_eq!(world.mempool.len(), 1);
                continue;
            }
        };
        refused(&mut world, bad);
        assert!(world.mempool.is_empty());
        assert!(world.nodes[CLIENT].channels().is_empty());
    }
}

#[test]
fn rule_1_an_acceptance_that_is_over_or_too_long_or_too_near_the_expiry_is_not_funded() {
    let funded = |lifetime: u32, until: u32| {
        let (mut world, acceptance) = asked(lifetime);
        let acceptance = Acceptance {
            accept_until: BlockHeight::new(until),
            ..acceptance
        };
        let message = message(&world, &acceptance, RELAY);
        world.forge(CLIENT, message);
        world.mempool.len() == 1
    };
    let longest = 1_000 + ACCEPT_BLOCKS + LOOK_GAP;
    for (until, good) in [
        (0, false),
        (1_000, false),
        (1_001, true),
        (longest, true),
        (longest + 1, false),
    ] {
        assert_eq!(funded(1_008, until), good, "until {until}");
    }
    let last = 1_000 + 216 - 4 * MARGIN - DEEP;
    for (until, good) in [(last, true), (last + 1, false)] {
        assert_eq!(funded(216, until), good, "until {until}");
    }
}

#[test]
fn a_client_looks_for_its_funding_from_its_own_height_on_whatever_the_acceptance_says() {
    for until in [1_001, 1_144] {
        let (mut world, acceptance) = asked(1_008);
        let acceptance = Acceptance {
            accept_until: BlockHeight::new(until),
            ..acceptance
        };
        let mut frame = Vec::new();
        write_frame(&message(&world, &acceptance, RELAY).into(), &mut frame);
        let frame = Input::Frame {
            connection: LINK,
            frame: &frame,
        };
        world.nodes[CLIENT].handle(world.now, frame).unwrap();
        let mut watched = Vec::new();
        while let Some(action) = world.nodes[CLIENT].poll_action() {
            if let Action::Chain(ChainAction::Watch { from, .. }) = &action {
                watched.push(from.value());
            }
            world.act(CLIENT, action);
        }
        assert_eq!(watched, [1_000 - LOOK_GAP]);
    }
}

/// What the relay would say next of this kind, caught on its way.
fn caught(world: &mut World, kind: Kind) -> Message {
    let mut caught = None;
    while let Some(action) = world.nodes[RELAY].poll_action() {
        match action {
            Action::Send { frame, .. } if read_frame(&frame).unwrap().kind() == kind => {
                caught = Some(read_frame(&frame).unwrap());
            }
            action => world.act(RELAY, action),
        }
    }
    caught.expect("the relay says so")
}

#[test]
fn prices_that_the_relay_did_not_sign_are_no_offer() {
    for what in 0..3 {
        let mut world = World::new();
        world.link();
        world.nodes[RELAY].offer_request(LINK);
        let Message::Offer(mut offer) = caught(&mut world, Kind::Offer) else {
            panic!("no offer")
        };
        match what {
            0 => offer.signature.0[40] ^= 1,
            1 => {
                let sheet = PriceSheet {
                    down: Msat::new(1),
                    ..*world.nodes[RELAY].sheet().unwrap()
                };
                offer.sheet = heapless::Vec::from_slice(&crate::wire::encode(&sheet)).unwrap();
            }
            _ => {
                world.forge(CLIENT, offer);
                assert!(world.nodes[CLIENT].offer(LINK).is_some());
                continue;
            }
        }
        refused(&mut world, offer);
        let offers = |e: &Event| matches!(e, Event::Offer { .. });
        assert!(!world.events[CLIENT].iter().any(offers));
    }
}

#[test]
fn a_receipt_that_the_relay_did_not_sign_is_neither_kept_nor_signed() {
    for good in [false, true] {
        let mut world = World::ready();
        world.buy(2);
        world.traffic(2, 2 * MIB);
        let mut frame = Vec::new();
        write_frame(&ReceiptRequest { account: ACCESS }.into(), &mut frame);
        let ask = Input::Frame {
            connection: LINK,
            frame: &frame,
        };
        world.nodes[RELAY].handle(world.now, ask).unwrap();
        let Message::ReceiptOffer(mut offer) = caught(&mut world, Kind::ReceiptOffer) else {
            panic!("no receipt")
        };
        if good {
            world.forge(CLIENT, offer);
        } else {
            offer.signature.0[40] ^= 1;
            refused(&mut world, offer);
        }
        let kept = world.disks[CLIENT].rows.keys();
        let kept = kept.filter(|(table, _)| *table == Table::Receipt).count();
        let signed = |e: &Event| matches!(e, Event::Receipt { .. });
        let signed = world.events[RELAY].iter().any(signed);
        assert_eq!((kept, signed), (usize::from(good), good));
    }
}
