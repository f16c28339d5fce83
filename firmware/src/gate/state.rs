//! The gate of a relay: what is attached, and the calls that change it.

use super::binding::{Binding, ClientSlot, InterfaceName, Mac};
use super::mark::{FlowMarks, Marked};
use super::neighbour::index_of;
use super::objects::Objects;
use super::recovery::{self, Survivor};
use super::ruleset::{self, Direction, MAX_ADDRESSES, MAX_CLIENTS, ObjectName, TABLE};
use super::{GateError, check, nft};
use std::collections::{BTreeMap, BTreeSet};
use turnpike_protocol::base::ByteCount;

/// The most that a kernel quota can be set to (`S64_MAX`).
const MAX_QUOTA: u64 = i64::MAX as u64;
/// Rounds of setting a quota that is used up while its client keeps sending. Each costs some 50 µs, and one is
/// enough unless more than the whole credit is dropped meanwhile.
const MAX_ROUNDS: usize = 16;
/// Clients per transaction when rules are laid anew: what fits the netlink buffer of an ordinary user.
const CLIENTS_PER_SCRIPT: usize = 16;

/// Where the gate stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GatePlan {
    /// Interfaces that guests are on. Nothing is forwarded from or to them but what this gate lets through.
    pub guests: Vec<InterfaceName>,
    /// Interfaces that paid traffic may leave through.
    pub uplinks: Vec<InterfaceName>,
    /// Give guests the uplink's IPv4 address. The usual choice: nobody routes to private addresses.
    pub masquerade_ipv4: bool,
    /// Give guests the uplink's IPv6 address, where no prefix is delegated.
    pub masquerade_ipv6: bool,
}

/// What a client used since it was attached, in layer-3 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// Whose.
    pub client: ClientSlot,
    /// Passed from the client to the uplink.
    pub up: ByteCount,
    /// Passed from the uplink to the client.
    pub down: ByteCount,
    /// Dropped for want of credit; never billed.
    pub dropped: ByteCount,
    /// Something was dropped since the last grant.
    pub exhausted: bool,
}

impl Reading {
    /// What is billed: up and down together.
    pub fn passed(&self) -> ByteCount {
        self.up.saturating_add(self.down)
    }
}

/// The open gate. Dropping it leaves the table in force, so that a crash lets nothing unpaid through;
/// [`Gate::close`] removes it.
///
/// Calls run on the calling thread, in the network namespace where the gate was opened, and return within
/// milliseconds: [`grant`](Gate::grant) and [`read`](Gate::read) are a few system calls, the others start `nft` once
/// or twice.
#[derive(Debug)]
pub struct Gate {
    plan: GatePlan,
    objects: Objects,
    clients: BTreeMap<ClientSlot, Client>,
    blocked: BTreeSet<Mac>,
    exempt: BTreeSet<Mac>,
    marks: FlowMarks,
}

#[derive(Clone, Debug)]
struct Bound {
    binding: Binding,
    marks: Vec<Marked>,
}

#[derive(Debug, Default)]
struct Client {
    /// Whose packets, and the marks of their flows. `None` when a crash fell between taking a client's packets away and
    /// deleting its counters.
    bound: Option<Bound>,
    /// The newest limit: bytes that may ever pass.
    allowed: u64,
    /// What had been dropped when the quota was last set.
    armed: u64,
    /// The newest reading, to notice a counter that goes backwards.
    passed: (u64, u64),
}

impl Gate {
    /// Says what is missing to open a gate here, and changes nothing.
    ///
    /// # Errors
    /// One line that names the remedy: no nft, no permission, a kernel without a part, forwarding switched off.
    pub fn check() -> Result<(), GateError> {
        check::check()
    }

    /// Opens the gate. If a table survived a crash, its clients stay attached with credit and counters as they are,
    /// and are reported. From here on nothing passes the guest interfaces but what [`grant`](Gate::grant) allows.
    ///
    /// # Errors
    /// An interface that does not exist; a table that another version made; what nft refused. Nothing was changed.
    pub fn open(plan: GatePlan) -> Result<(Gate, Vec<Survivor>), GateError> {
        for interface in plan.guests.iter().chain(&plan.uplinks) {
            index_of(interface)?;
        }
        let found = recovery::read_table()?;
        let mut gate = Gate {
            plan,
            objects: Objects::open(TABLE)?,
            clients: BTreeMap::new(),
            blocked: found.blocked,
            exempt: found.exempt,
            marks: FlowMarks::of_this_boot()?,
        };
        for survivor in &found.survivors {
            let r = survivor.reading;
            let bound = survivor.binding.clone().map(|b| gate.bound(r.client, b));
            gate.clients.insert(
                r.client,
                Client {
                    bound,
                    allowed: r.passed().saturating_add(survivor.left).value(),
                    armed: r.dropped.value(),
                    passed: (r.up.value(), r.down.value()),
                },
            );
        }
        gate.refresh()?;
        Ok((gate, found.survivors))
    }

    /// Lays the rules anew without losing a byte of credit. Needed after a guest or uplink interface was created again:
    /// until then its guests pass nothing. One transaction for the first clients, more for many: nothing unpaid passes
    /// between them, and what is paid is held up for milliseconds.
    pub fn refresh(&mut self) -> Result<(), GateError> {
        let mut script = ruleset::frame(&self.plan);
        for (set, macs) in [("blocked", &self.blocked), ("exempt", &self.exempt)] {
            macs.iter()
                .for_each(|mac| script += &ruleset::device("add", set, *mac));
        }
        let clients: Vec<(ClientSlot, Bound)> = self
            .clients
            .iter()
            .filter_map(|(s, c)| Some((*s, c.bound.clone()?)))
            .collect();
        for (n, (client, bound)) in clients.iter().enumerate() {
            script += &ruleset::chains(*client, &bound.marks);
            script += &self.elements("create", *client, bound);
            if (n + 1) % CLIENTS_PER_SCRIPT == 0 {
                nft::apply(&std::mem::take(&mut script))?;
            }
        }
        apply(&script)
    }

    /// Binds a client. It passes nothing until a [`grant`](Gate::grant). Repeating it with the same binding (so
    /// after a restart) changes nothing.
    ///
    /// # Errors
    /// The slot or an address is taken; the binding names no address or one that is not a guest's.
    pub fn attach(&mut self, client: ClientSlot, binding: Binding) -> Result<(), GateError> {
        let binding = self.admit(client, binding)?;
        let script = match self.clients.get(&client) {
            Some(Client { bound: Some(b), .. }) if b.binding == binding => return Ok(()),
            Some(Client { bound: Some(_), .. }) => return Err(GateError::SlotTaken(client)),
            Some(Client { bound: None, .. }) => String::new(),
            None if self.clients.len() >= MAX_CLIENTS => return Err(GateError::Full(MAX_CLIENTS)),
            None => ruleset::create(client),
        };
        self.bind(client, binding, script)
    }

    /// Moves a client's credit to another binding (a new address, another device), in one transaction: counters and
    /// limit stay.
    pub fn rebind(&mut self, client: ClientSlot, binding: Binding) -> Result<(), GateError> {
        let binding = self.admit(client, binding)?;
        let old = self
            .clients
            .get(&client)
            .ok_or(GateError::UnknownClient(client))?;
        let script = old.bound.as_ref().map(|old| self.elements("delete", client, old));
        self.bind(client, binding, script.unwrap_or_default())
    }

    /// Sets how many bytes may ever pass for this attachment, up and down together. The limit is cumulative, so
    /// repeating a grant is harmless; granting the same again re-arms a quota that was used up by dropped packets.
    ///
    /// The kernel's quota counts what it dropped, too. So it is set to the limit plus what the drop counter has
    /// seen: that counter may have moved on meanwhile, which errs towards dropping, never towards letting through;
    /// then it is read again and the difference made good.
    ///
    /// # Errors
    /// Unknown client; the table is gone; the kernel's refusal. The old limit or the new one holds.
    pub fn grant(&mut self, client: ClientSlot, limit: ByteCount) -> Result<(), GateError> {
        let state = self
            .clients
            .get_mut(&client)
            .ok_or(GateError::UnknownClient(client))?;
        let (quota, dropped) = (
            ObjectName::quota(client),
            ObjectName::counter(client, Direction::Dropped),
        );
        let mut seen = self.objects.counter(&dropped)?;
        for _ in 0..MAX_ROUNDS {
            self.objects
                .set_quota(&quota, limit.value().saturating_add(seen).min(MAX_QUOTA))?;
            state.allowed = limit.value();
            state.armed = seen;
            seen = self.objects.counter(&dropped)?;
            if seen == state.armed {
                break;
            }
        }
        Ok(())
    }

    /// Lets nothing more pass for now; what was granted is kept. Use it when a client's liveness drifts.
    pub fn pause(&mut self, client: ClientSlot) -> Result<(), GateError> {
        let allowed = self.allowed(client)?;
        self.grant(client, ByteCount::ZERO)?;
        self.clients.entry(client).or_default().allowed = allowed.value();
        Ok(())
    }

    /// Grants again what was granted before a [`pause`](Gate::pause), or re-arms after a drop.
    pub fn resume(&mut self, client: ClientSlot) -> Result<(), GateError> {
        let allowed = self.allowed(client)?;
        self.grant(client, allowed)
    }

    /// The newest limit of a client: bytes that may ever pass.
    pub fn allowed(&self, client: ClientSlot) -> Result<ByteCount, GateError> {
        self.clients
            .get(&client)
            .map(|c| ByteCount::new(c.allowed))
            .ok_or(GateError::UnknownClient(client))
    }

    /// Who is attached, and with which binding.
    pub fn clients(&self) -> impl Iterator<Item = (ClientSlot, Option<&Binding>)> {
        self.clients
            .iter()
            .map(|(slot, c)| (*slot, c.bound.as_ref().map(|b| &b.binding)))
    }

    /// Reads every client in one dump of the kernel's counters.
    ///
    /// # Errors
    /// If one attached client's figure is missing or went backwards, all of the reading is refused: an error is
    /// never zero usage.
    pub fn read(&mut self) -> Result<Vec<Reading>, GateError> {
        let mut found: BTreeMap<ClientSlot, [Option<u64>; 3]> = BTreeMap::new();
        for count in self.objects.counters()? {
            found.entry(count.client).or_default()[count.direction as usize] = Some(count.bytes);
        }
        let mut readings = Vec::with_capacity(self.clients.len());
        for (slot, state) in &mut self.clients {
            let Some([Some(up), Some(down), Some(dropped)]) = found.get(slot).copied() else {
                return Err(GateError::TableGone);
            };
            readings.push(state.reading(*slot, up, down, dropped)?);
        }
        Ok(readings)
    }

    /// Reads one client.
    pub fn read_one(&mut self, client: ClientSlot) -> Result<Reading, GateError> {
        let state = self
            .clients
            .get_mut(&client)
            .ok_or(GateError::UnknownClient(client))?;
        let [up, down, dropped] = [Direction::Up, Direction::Down, Direction::Dropped]
            .map(|d| self.objects.counter(&ObjectName::counter(client, d)));
        state.reading(client, up?, down?, dropped?)
    }

    /// Takes a client's packets away, then reads what it used in all, then forgets it. The slot is free again.
    pub fn detach(&mut self, client: ClientSlot) -> Result<Reading, GateError> {
        let state = self
            .clients
            .get(&client)
            .ok_or(GateError::UnknownClient(client))?;
        if let Some(bound) = &state.bound {
            apply(&self.elements("delete", client, bound))?;
        }
        self.clients.entry(client).or_default().bound = None;
        let reading = self.read_one(client)?;
        nft::apply(&ruleset::delete(client))?;
        self.clients.remove(&client);
        Ok(reading)
    }

    /// Drops everything from a device: forwarded traffic, paid or not, and what it sends to the relay itself.
    /// Its credit is kept.
    pub fn block(&mut self, mac: Mac) -> Result<(), GateError> {
        self.change_device(mac, true, false)
    }

    /// Lets a device pass without paying: its own traffic and the answers. Its credit is not used.
    pub fn exempt(&mut self, mac: Mac) -> Result<(), GateError> {
        self.change_device(mac, false, true)
    }

    /// Takes back [`block`](Gate::block) or [`exempt`](Gate::exempt): the device pays as others do.
    pub fn charge(&mut self, mac: Mac) -> Result<(), GateError> {
        self.change_device(mac, false, false)
    }

    /// Removes the table: the ruleset is as before the gate was opened, and the kernel forwards whatever it did then.
    pub fn close(self) -> Result<(), GateError> {
        nft::apply(&ruleset::close(TABLE))
    }

    /// Removes a table that a crash left, without opening a gate.
    pub fn remove_leftover() -> Result<(), GateError> {
        match nft::list(TABLE)? {
            Some(_) => nft::apply(&ruleset::close(TABLE)),
            None => Ok(()),
        }
    }

    /// A device that is neither blocked nor exempt.
    fn charges(&self, mac: Mac) -> bool {
        !self.blocked.contains(&mac) && !self.exempt.contains(&mac)
    }

    /// What leads a client's packets to its chains, or takes that away; nothing for devices that are not charged.
    fn elements(&self, verb: &str, client: ClientSlot, bound: &Bound) -> String {
        if self.charges(bound.binding.mac) {
            ruleset::elements(verb, client, &bound.binding, &bound.marks)
        } else {
            String::new()
        }
    }

    fn admit(&self, client: ClientSlot, binding: Binding) -> Result<Binding, GateError> {
        binding.validate()?;
        let binding = binding.canonical();
        if binding.ipv6.len() > MAX_ADDRESSES {
            return Err(GateError::Full(MAX_ADDRESSES));
        }
        if !self.plan.guests.contains(&binding.interface) {
            return Err(GateError::NoInterface(binding.interface.to_string()));
        }
        for (holder, other) in self.clients.iter().filter(|(slot, _)| **slot != client) {
            if let Some(address) = other
                .bound
                .as_ref()
                .and_then(|b| b.binding.shared_address(&binding))
            {
                return Err(GateError::AddressTaken {
                    address,
                    holder: *holder,
                });
            }
        }
        Ok(binding)
    }

    fn change_device(&mut self, mac: Mac, block: bool, exempt: bool) -> Result<(), GateError> {
        let mut script = String::new();
        for (set, was, will) in [
            ("blocked", self.blocked.contains(&mac), block),
            ("exempt", self.exempt.contains(&mac), exempt),
        ] {
            if was != will {
                script += &ruleset::device(if will { "add" } else { "delete" }, set, mac);
            }
        }
        if script.is_empty() {
            return Ok(());
        }
        let (charged, charges) = (self.charges(mac), !block && !exempt);
        let verb = if charges { "create" } else { "delete" };
        for (slot, client) in self.clients.iter().filter(|_| charged != charges) {
            if let Some(bound) = client.bound.as_ref().filter(|b| b.binding.mac == mac) {
                script += &ruleset::elements(verb, *slot, &bound.binding, &bound.marks);
            }
        }
        apply(&script)?;
        if block {
            self.blocked.insert(mac)
        } else {
            self.blocked.remove(&mac)
        };
        if exempt {
            self.exempt.insert(mac)
        } else {
            self.exempt.remove(&mac)
        };
        Ok(())
    }

    /// The binding with marks that no other client has now.
    fn bound(&self, client: ClientSlot, binding: Binding) -> Bound {
        let others = self.clients.iter().filter(|(slot, _)| **slot != client);
        let bound = others.filter_map(|(_, other)| other.bound.as_ref());
        let taken = bound.flat_map(|b| b.marks.iter().map(|m| m.mark)).collect();
        let marks = self.marks.of(&binding, taken);
        Bound { binding, marks }
    }

    /// The rest of attaching: chains and elements after `script`.
    fn bind(&mut self, client: ClientSlot, binding: Binding, mut script: String) -> Result<(), GateError> {
        let bound = self.bound(client, binding);
        script += &ruleset::chains(client, &bound.marks);
        script += &self.elements("create", client, &bound);
        apply(&script)?;
        self.clients.entry(client).or_default().bound = Some(bound);
        Ok(())
    }
}

fn apply(script: &str) -> Result<(), GateError> {
    if script.is_empty() {
        return Ok(());
    }
    nft::apply(script)
}

impl Client {
    fn reading(
        &mut self,
        client: ClientSlot,
        up: u64,
        down: u64,
        dropped: u64,
    ) -> Result<Reading, GateError> {
        if up < self.passed.0 || down < self.passed.1 || dropped < self.armed {
            return Err(GateError::CounterReset(client));
        }
        self.passed = (up, down);
        Ok(Reading {
            client,
            up: ByteCount::new(up),
            down: ByteCount::new(down),
            dropped: ByteCount::new(dropped),
            exhausted: dropped > self.armed,
        })
    }
}
