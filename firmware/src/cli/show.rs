//! Answers for people.

use super::amount::{bytes, grouped, msat, rate, sat, seconds};
use super::{channel, event};
use crate::control::{
    Channel, Check, CheckState, Client, Discovered, Exposure, Prices, Progress, Purchase, PurchaseState,
    ReceiptCopy, Refund, Response, Role, SalesRow, SessionStatus, Standing, Status,
};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write as _;
use turnpike_protocol::base::{Msat, Sat};

/// Any answer.
pub(super) fn response(response: &Response) -> String {
    match response {
        Response::Status(it) => status(it),
        Response::Relays { relays } => discovered(relays),
        Response::Connected { peer, .. } => format!("connected to {peer}"),
        Response::Prices(it) => prices(it),
        Response::Quote(it) => channel::terms(it),
        Response::Opened(it) => format!(
            "channel {} is open: {}, {}",
            it.slot,
            sat(it.capacity_sat),
            until(it)
        ),
        Response::Bought(it) => purchase(it),
        Response::Stopped { relays } if relays.is_empty() => "nothing was being bought".to_owned(),
        Response::Stopped { relays } => relays
            .iter()
            .map(|r| format!("stopped buying from {r}; credit is kept\n"))
            .collect(),
        Response::Channels { channels: list } => channels(list),
        Response::Raised { slot, txid, fee_sat } => {
            format!(
                "channel {slot} settles in {txid} now, with a fee of {}",
                sat(*fee_sat)
            )
        }
        Response::Address { address } => address.clone(),
        Response::Balance(it) => format!(
            "can be spent  {}\nunconfirmed   {}\nset aside     {}",
            sat(it.confirmed_sat),
            sat(it.unconfirmed_sat),
            sat(it.reserved_sat)
        ),
        Response::Sent { txid, amount_sat } => format!("{} sent in {txid}", sat(*amount_sat)),
        Response::Receipts { receipts: list, .. } => receipts(list),
        Response::Exposure(it) => exposure(it),
        Response::Clients { clients: list } => clients(list),
        Response::Standing { client, standing } => format!("{client} {}", treated(*standing)),
        Response::Sales { rows } => sales(rows),
        Response::Refunds { refunds: list } => refunds(list),
        Response::BackedUp {
            path,
            channels,
            receipts,
            hash,
            ..
        } => format!(
            "{}: {channels} channels and {receipts} receipts, SHA-256 {hash}\n\
             It gets old: what this node is paid from now on is not in it, and comes back only if the payer does. A \
             restored node settles every channel in which it is paid. What it pays itself is safe with the seed words alone.",
            path.display()
        ),
        Response::Checks { checks: list } => checks(list),
    }
}

/// One step, in one line.
pub(super) fn progress(progress: &Progress) -> String {
    match progress {
        Progress::Step { text } => text.clone(),
        Progress::Relay(it) => format!("found {}@{}", it.node, it.address),
        Progress::Channel(it) => format!("channel {}: {}", it.slot, it.state),
        Progress::Purchase(it) => purchase(it),
        Progress::Event(it) => event::line(it),
        Progress::Missed { lines } => {
            format!("{lines} lines were left out, since they were not read in time")
        }
    }
}

/// A sheet in one line.
pub(super) fn price(it: &Prices) -> String {
    let mut text = format!(
        "{}/MiB up, {}/MiB down",
        msat(it.up_msat_per_mib),
        msat(it.down_msat_per_mib)
    );
    if it.msat_per_second > Msat::ZERO {
        let _ = write!(text, ", {}/s", msat(it.msat_per_second));
    }
    if it.free_bytes.value() > 0 {
        let _ = write!(text, ", {} free a day", bytes(it.free_bytes));
    }
    text
}

/// With numbers, as `receipts verify` takes them.
pub(super) fn receipts(list: &[ReceiptCopy]) -> String {
    let row = |(at, it): (usize, &ReceiptCopy)| {
        vec![
            (at + 1).to_string(),
            short(&it.relay),
            short(&it.client),
            short(&it.channel),
            it.sequence.to_string(),
            bytes(it.up_bytes),
            bytes(it.down_bytes),
            msat(it.cost_msat),
            msat(it.paid_msat),
            if it.client_signature.is_some() {
                "both"
            } else {
                "relay only"
            }
            .to_owned(),
        ]
    };
    let head = [
        "",
        "relay",
        "client",
        "channel",
        "receipt",
        "up",
        "down",
        "cost",
        "paid",
        "signed by",
    ];
    table(&head, list.iter().enumerate().map(row), "no receipts")
}

/// What the doctor found.
pub(super) fn checks(list: &[Check]) -> String {
    let mut text = String::new();
    for it in list {
        let mark = match it.state {
            CheckState::Good => "good",
            CheckState::Poor => "poor",
            CheckState::Bad => "BAD ",
        };
        let _ = writeln!(text, "{mark}  {}: {}", it.name, it.found);
        if !it.remedy.is_empty() {
            let _ = writeln!(text, "      {}", it.remedy);
        }
    }
    text
}

fn status(it: &Status) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<10}{value}");
    };
    row("node", it.node.to_string());
    let play = if it.play_money {
        ", play money: worth nothing"
    } else {
        ""
    };
    let lit = if it.lit {
        ""
    } else {
        ", the chain cannot be seen now"
    };
    let height = grouped(u64::from(it.height.value()));
    row(
        "chain",
        format!(
            "{} at height {height}, {}{play}{lit}",
            it.network,
            rate(it.fee_rate_sat_per_kvb)
        ),
    );
    row(
        "daemon",
        format!(
            "version {}, up {}",
            it.program_version,
            seconds(it.uptime_seconds)
        ),
    );
    row("card", it.card.clone());
    let waiting = it
        .wallet_unconfirmed_sat
        .filter(|amount| *amount > Sat::ZERO)
        .map_or_else(String::new, |amount| {
            format!(", and {} wait for a block", sat(amount))
        });
    row(
        "wallet",
        it.wallet_sat
            .map_or_else(|| "none".to_owned(), |spendable| sat(spendable) + &waiting),
    );
    row("channels", it.channels.to_string());
    if let Some(relay) = &it.relay {
        let gate = if relay.gate_works {
            ""
        } else {
            "; THE GATE DOES NOT WORK"
        };
        row(
            "selling",
            format!(
                "on {}: {} of {} clients served now{gate}",
                relay.listen, relay.serving, relay.clients
            ),
        );
        row("price", price(&relay.prices));
    }
    for session in &it.sessions {
        // An older session with the same peer is dying.
        let newer =
            |other: &SessionStatus| other.peer == session.peer && other.connection > session.connection;
        if it.sessions.iter().any(newer) {
            continue;
        }
        row(
            "session",
            format!(
                "{} {}",
                session.peer,
                session.address.as_deref().unwrap_or_default()
            ),
        );
    }
    for it in &it.purchases {
        row("buying", format!("from {}: {}", it.relay, purchase(it)));
    }
    for warning in &it.warnings {
        row("warning", warning.clone());
    }
    text
}

fn discovered(list: &[Discovered]) -> String {
    let row = |it: &Discovered| {
        vec![
            format!("{}@{}", it.node, it.address),
            quiet(&it.name),
            price(&it.prices),
        ]
    };
    table(
        &["relay", "name", "price"],
        list.iter().map(row),
        "no relay answered",
    )
}

fn prices(it: &Prices) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12}{value}");
    };
    row("up", format!("{}/MiB", msat(it.up_msat_per_mib)));
    row("down", format!("{}/MiB", msat(it.down_msat_per_mib)));
    row("time", format!("{}/s", msat(it.msat_per_second)));
    row("free", format!("{} a client and day", bytes(it.free_bytes)));
    if let Some(total) = it.free_total_bytes {
        row("free in all", format!("{} a day", bytes(total)));
    }
    row(
        "window",
        format!("{} to {}", bytes(it.window_min_bytes), bytes(it.window_max_bytes)),
    );
    let until = grouped(u64::from(it.valid_until_height.value()));
    row(
        "sheet",
        format!("version {}, valid until height {until}", it.version),
    );
    text
}

fn purchase(it: &Purchase) -> String {
    let state = match it.state {
        PurchaseState::Ceiling => "waits for confirmations".to_owned(),
        state => name(&state),
    };
    let cause = it.cause.map(|c| format!(" ({})", name(&c))).unwrap_or_default();
    let ordered = it
        .ordered_bytes
        .map(|b| format!(" of {}", bytes(b)))
        .unwrap_or_default();
    let ahead = match it.state {
        _ if it.left_bytes.value() == 0 => String::new(),
        PurchaseState::Done | PurchaseState::Stopped => format!(", {} credit kept", bytes(it.left_bytes)),
        _ => format!(", {} ahead", bytes(it.left_bytes)),
    };
    let (used, spent, max) = (bytes(it.used_bytes), msat(it.spent_msat), msat(it.max_msat));
    format!("{state}{cause}: {used}{ordered} used, {spent} of {max} spent{ahead}")
}

fn channels(list: &[Channel]) -> String {
    let row = |it: &Channel| {
        let spent = it.spent_by.map(|t| t.to_string()).unwrap_or_default();
        vec![
            it.slot.to_string(),
            name(&it.role),
            it.outcome
                .as_ref()
                .map_or(it.state.clone(), |outcome| format!("{}, {outcome}", it.state)),
            short(&it.peer),
            sat(it.capacity_sat),
            msat(it.total_msat),
            until(it),
            spent,
        ]
    };
    let head = [
        "", "as", "state", "peer", "capacity", "paid", "expiry", "spent by",
    ];
    table(&head, list.iter().map(row), "no channels")
}

fn until(it: &Channel) -> String {
    match (it.state.as_str(), it.ended_at_height) {
        ("over", Some(height)) => return format!("ended at height {}", grouped(u64::from(height.value()))),
        ("missing", _) => return "its funding is missing".to_owned(),
        ("over" | "settled" | "refunded", _) => return String::new(),
        // Accepted, and its funding is not broadcast.
        _ if it.outpoint.is_none() && it.state == "accepted" => return "nothing locked yet".to_owned(),
        _ => {}
    }
    let (verb, height) = match it.role {
        Role::Payer => ("locked until height", it.expiry_height),
        Role::Payee => ("settled by height", it.settle_by_height),
    };
    format!("{verb} {} at worst", grouped(u64::from(height.value())))
}

fn exposure(it: &Exposure) -> String {
    let mut text = format!(
        "at stake now {}; unconfirmed {} of at most {}\n",
        msat(it.total_msat),
        msat(it.unconfirmed_msat),
        msat(it.unconfirmed_bound_msat)
    );
    let rows = it.rows.iter().map(|row| {
        vec![
            short(&row.peer),
            name(&row.role),
            msat(row.msat),
            bytes(row.bytes),
            row.milliseconds
                .map(|ms| format!("{} ms", grouped(ms)))
                .unwrap_or_default(),
            sat(row.locked_sat),
        ]
    });
    if !it.rows.is_empty() {
        text.push_str(&table(
            &["peer", "as", "money", "bytes", "time", "locked at worst"],
            rows,
            "",
        ));
    }
    text
}

fn clients(list: &[Client]) -> String {
    let row = |it: &Client| {
        let now = match (it.serving, it.cut) {
            (_, true) => "cut",
            (true, false) => "served",
            (false, false) => "",
        };
        vec![
            it.client.to_string(),
            name(&it.standing),
            now.to_owned(),
            it.address.clone().unwrap_or_default(),
            bytes(it.up_bytes),
            bytes(it.down_bytes),
            msat(it.cost_msat),
            msat(it.paid_msat),
            some(it.debt_msat),
        ]
    };
    let head = [
        "client", "standing", "now", "address", "up", "down", "cost", "paid", "owed",
    ];
    table(&head, list.iter().map(row), "nobody was ever served")
}

fn treated(standing: Standing) -> &'static str {
    match standing {
        Standing::Normal => "pays as others do",
        Standing::Exempt => "is served for nothing",
        Standing::Blocked => "is not served any more",
    }
}

fn sales(rows: &[SalesRow]) -> String {
    let row = |it: &SalesRow| {
        vec![
            it.day.clone(),
            it.client.to_string(),
            bytes(it.up_bytes),
            bytes(it.down_bytes),
            msat(it.cost_msat),
            msat(it.paid_msat),
            some(it.lost_msat),
        ]
    };
    table(
        &["day", "client", "up", "down", "cost", "paid", "lost"],
        rows.iter().map(row),
        "nothing was sold",
    )
}

/// An amount that is mostly nothing.
fn some(amount: Msat) -> String {
    if amount == Msat::ZERO {
        String::new()
    } else {
        msat(amount)
    }
}

fn refunds(list: &[Refund]) -> String {
    let mut text = String::new();
    for it in list {
        let _ = writeln!(
            text,
            "channel {}: {} less {} fee, from height {} on, transaction {}\n{}",
            it.slot,
            sat(it.capacity_sat),
            sat(it.fee_sat),
            grouped(u64::from(it.expiry_height.value())),
            it.txid,
            it.transaction
        );
    }
    if list.is_empty() {
        "no channel of this node is to be refunded".to_owned()
    } else {
        text
    }
}

/// The stable name, for people without its underscores.
fn name(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => name.replace('_', " "),
        _ => String::new(),
    }
}

/// What a stranger wrote: nothing that moves the cursor.
fn quiet(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(32).collect()
}

/// Enough of an identity to tell it from others.
pub(super) fn short(id: &impl ToString) -> String {
    id.to_string().chars().take(12).collect()
}

fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>, empty: &str) -> String {
    let mut all: Vec<Vec<String>> = vec![head.iter().map(|h| (*h).to_owned()).collect()];
    all.extend(rows);
    if all.len() == 1 {
        return empty.to_owned();
    }
    let wide = |at: usize| {
        all.iter()
            .filter_map(|row| row.get(at))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..head.len()).map(|at| wide(at).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        let line: Vec<String> = cells.collect();
        format!("{}\n", line.join("  ").trim_end())
    };
    all.iter().map(line).collect()
}
