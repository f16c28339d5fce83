//! The packets of the datagram bearer, and what becomes of one that does not fit.

use super::cipher::TAG;
use super::noise::Pattern;
use super::proof::PROOF;
use crate::base::limits::MAX_FRAME;
use alloc::vec::Vec;

/// Where a datagram belongs, by its clear header. Nothing is proven by it yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// A first message: belongs to the session being accepted from the same source address, if there is one (it may be
    /// a repetition), else to a new one.
    Hello,
    /// Belongs to the session that was given this number.
    Session(u32),
}

/// Tells the shell which session to hand a datagram to; `None` for what no node sends.
pub fn route(datagram: &[u8]) -> Option<Route> {
    match Packet::parse(datagram).ok()? {
        Packet::Hello(_) => Some(Route::Hello),
        Packet::Reply(id, _) | Packet::Finish(id, _) | Packet::Data(id, _) => Some(Route::Session(id)),
    }
}

/// What a datagram brought.
#[derive(PartialEq, Eq, Debug)]
pub enum Received<'d> {
    /// A frame, decrypted within the datagram's own bytes.
    Frame(&'d [u8]),
    /// Something of the session itself; poll its actions.
    Progress,
    /// Nothing: it was dropped. The session goes on, since anybody can send datagrams.
    Ignored(Ignored),
}

/// Why a datagram was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Ignored {
    /// Unknown kind, or a length that this kind cannot have.
    Shape,
    /// For another session.
    Foreign,
    /// A message that does not belong to this stage: late, early, or a repetition of no use.
    Stage,
    /// A counter that was accepted before.
    Replayed,
    /// A counter too far behind the newest to tell whether it was accepted before.
    Old,
    /// A counter so far ahead that its key would be more than `MAX_EPOCH_JUMP` rekeys away.
    Ahead,
    /// It does not authenticate: forged, or damaged on the way.
    Forged,
}

/// A datagram taken apart; what it carries is not authenticated yet.
pub(super) enum Packet<'d> {
    /// Pattern number and first Noise message.
    Hello(&'d [u8]),
    /// Receiver, second Noise message.
    Reply(u32, &'d [u8]),
    /// Receiver, third Noise message.
    Finish(u32, &'d [u8]),
    /// Receiver, counter.
    Data(u32, u64),
}

/// Bytes of a hello: as many as its answers have at most, so that nobody can be flooded through a node. 200 bytes
/// against 57 + 125 (IK) or 105 (XX).
pub(super) const HELLO: usize = 200;
/// Bytes before the sealed part of a data packet: kind 1, receiver 4, counter 8.
pub(super) const DATA_HEADER: usize = 13;
/// Bytes of a session number, as the payload of hello and reply carries it.
pub(super) const ID: usize = 4;

const KIND_HELLO: u8 = 1;
const KIND_REPLY: u8 = 2;
const KIND_FINISH: u8 = 3;
const KIND_DATA: u8 = 4;

impl<'d> Packet<'d> {
    pub(super) fn parse(datagram: &'d [u8]) -> Result<Packet<'d>, Ignored> {
        let (kind, rest) = datagram.split_first().ok_or(Ignored::Shape)?;
        if *kind == KIND_HELLO {
            return if datagram.len() == HELLO {
                Ok(Packet::Hello(rest))
            } else {
                Err(Ignored::Shape)
            };
        }
        let (id, rest) = rest.split_first_chunk::<ID>().ok_or(Ignored::Shape)?;
        let id = u32::from_be_bytes(*id);
        match *kind {
            KIND_REPLY if [Pattern::Xx.second(ID), Pattern::Ik.second(ID)].contains(&rest.len()) => {
                Ok(Packet::Reply(id, rest))
            }
            KIND_FINISH if rest.len() == Pattern::third() => Ok(Packet::Finish(id, rest)),
            KIND_DATA => {
                let (counter, sealed) = rest.split_first_chunk::<8>().ok_or(Ignored::Shape)?;
                if sealed.len() < TAG || sealed.len() > MAX_FRAME.saturating_add(TAG) {
                    return Err(Ignored::Shape);
                }
                Ok(Packet::Data(id, u64::from_be_bytes(*counter)))
            }
            _ => Err(Ignored::Shape),
        }
    }

    /// The start of a hello, to which the first Noise message is appended.
    pub(super) fn hello(pattern: Pattern) -> Vec<u8> {
        [KIND_HELLO, pattern as u8].to_vec()
    }

    /// The payload of a hello: the sender's number, then zeros up to [`HELLO`] bytes.
    pub(super) fn hello_payload(pattern: Pattern, id: u32) -> Vec<u8> {
        let mut payload = id.to_be_bytes().to_vec();
        payload.resize(hello_payload_length(pattern), 0);
        payload
    }

    /// Reads the sender's number out of a hello's payload; `None` unless the rest is zeros.
    pub(super) fn hello_sender(payload: &[u8]) -> Option<u32> {
        let (id, padding) = payload.split_first_chunk::<ID>()?;
        padding.iter().all(|&b| b == 0).then_some(u32::from_be_bytes(*id))
    }

    /// The start of a reply.
    pub(super) fn reply(receiver: u32) -> Vec<u8> {
        addressed(KIND_REPLY, receiver)
    }

    /// The start of a finish.
    pub(super) fn finish(receiver: u32) -> Vec<u8> {
        addressed(KIND_FINISH, receiver)
    }

    /// Appends the header of a data packet.
    pub(super) fn data(receiver: u32, counter: u64, out: &mut Vec<u8>) {
        out.push(KIND_DATA);
        out.extend_from_slice(&receiver.to_be_bytes());
        out.extend_from_slice(&counter.to_be_bytes());
    }

    /// Whether a data packet has the length of a proof.
    pub(super) const fn is_proof_length(datagram: &[u8]) -> bool {
        datagram.len() == DATA_HEADER + PROOF + TAG
    }
}

const fn hello_payload_length(pattern: Pattern) -> usize {
    HELLO - 2 - pattern.first(0)
}

fn addressed(kind: u8, receiver: u32) -> Vec<u8> {
    let mut out = [kind].to_vec();
    out.extend_from_slice(&receiver.to_be_bytes());
    out
}
