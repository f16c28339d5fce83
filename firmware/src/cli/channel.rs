//! Channels: what opening one costs is shown before it is opened (money.md rule 4).

use super::amount::{grouped, msat, rate, sat, seconds};
use super::arguments::{ChannelCommand, OpenOptions};
use super::{Failure, Output, Place, daemon, show};
use crate::control::{Progress, Quote, Request, Response, Which};
use std::fmt::Write as _;
use std::io::{BufRead, Write, stderr, stdin};
use turnpike_protocol::base::Sat;

pub(super) fn run(place: &Place, output: &Output, command: ChannelCommand) -> Result<(), Failure> {
    match command {
        ChannelCommand::List => output.response(&daemon::ask(place, Request::ChannelList)?),
        ChannelCommand::Open(options) => {
            let quote = quote(place, &options)?;
            consent(output, &quote, options.yes)?;
            output.response(&open(place, output, &options, &quote)?)
        }
        ChannelCommand::Close { slot, wait, .. } => {
            let which = slot.map_or(Which::All, Which::Slot);
            let request = Request::ChannelClose {
                which,
                wait_seconds: wait,
            };
            let response = daemon::ask_with(place, request, |progress| told(output, &progress))?;
            output.response(&response)
        }
        ChannelCommand::Raise { slot, rate } => output.response(&daemon::ask(
            place,
            Request::ChannelRaiseFee {
                slot,
                sat_per_kvb: rate,
            },
        )?),
    }
}

/// What a channel would cost and lock.
pub(super) fn quote(place: &Place, options: &OpenOptions) -> Result<Quote, Failure> {
    let request = Request::Quote {
        relay: options.relay.clone(),
        capacity_sat: options.capacity_sat.map(Sat::new),
        lifetime_blocks: options.lifetime_blocks,
    };
    match daemon::ask(place, request)? {
        Response::Quote(quote) => Ok(quote),
        _ => Err(daemon::unexpected()),
    }
}

/// Shows the terms and asks, unless the owner said yes already.
///
/// # Errors
/// The owner did not say yes, or the wallet could not fund it anyway.
pub(super) fn consent(output: &Output, quote: &Quote, yes: bool) -> Result<(), Failure> {
    enough(quote)?;
    let mut err = stderr().lock();
    if !output.json || !yes {
        drop(err.write_all(terms(quote).as_bytes()));
    }
    if yes {
        return Ok(());
    }
    drop(write!(err, "Open it? [y/N] "));
    drop(err.flush());
    let mut answer = String::new();
    drop(stdin().lock().read_line(&mut answer));
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => {
            if !answer.ends_with('\n') {
                drop(writeln!(err));
            }
            Err(Failure::new(
                "no channel was opened: answer y, or say --yes, to open it",
            ))
        }
    }
}

/// Whether the wallet can fund what was quoted.
pub(super) fn enough(quote: &Quote) -> Result<(), Failure> {
    let needed = quote.capacity_sat.saturating_add(quote.funding_fee_sat);
    let missing = needed.saturating_sub(quote.wallet_sat);
    if missing == Sat::ZERO {
        return Ok(());
    }
    Err(Failure::new(format!(
        "a channel of {} takes {} with its fee, and the wallet has {} that can be spent: send {} or more to what \
         `turnpike wallet address` prints and wait for a block, or open a smaller one with --capacity-sat",
        sat(quote.capacity_sat),
        sat(needed),
        sat(quote.wallet_sat),
        sat(missing),
    )))
}

/// Opens the channel that was quoted and agreed to.
pub(super) fn open(
    place: &Place,
    output: &Output,
    options: &OpenOptions,
    quote: &Quote,
) -> Result<Response, Failure> {
    let request = Request::Open {
        relay: options.relay.clone(),
        capacity_sat: Some(quote.capacity_sat),
        lifetime_blocks: Some(quote.lifetime_blocks),
    };
    daemon::ask_with(place, request, |progress| told(output, &progress))
}

fn told(output: &Output, progress: &Progress) -> Result<(), Failure> {
    output.note(&show::progress(progress));
    Ok(())
}

/// Everything that is to be known before money is locked.
pub(super) fn terms(quote: &Quote) -> String {
    let mut text = format!("A channel to {}\n", quote.relay);
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "  {name:<12}{value}");
    };
    let height = u64::from(quote.locked_until_height.value());
    // Ten minutes a block on average.
    let away = seconds(u64::from(quote.lifetime_blocks) * 600);
    row("capacity", sat(quote.capacity_sat));
    row(
        "locked",
        format!(
            "until height {} at worst, if the relay falls silent: {} blocks, about {away}",
            grouped(height),
            grouped(u64::from(quote.lifetime_blocks)),
        ),
    );
    row(
        "funding",
        format!(
            "{} fee, at {}",
            sat(quote.funding_fee_sat),
            rate(quote.fee_rate_sat_per_kvb)
        ),
    );
    row(
        "settlement",
        format!(
            "{} fee at present, out of what the relay is paid",
            sat(quote.settle_fee_sat)
        ),
    );
    row(
        "refund",
        format!(
            "{} fee, only if the relay falls silent",
            sat(quote.refund_fee_sat)
        ),
    );
    row(
        "dust",
        format!("a remainder below {} is lost to fees", sat(quote.dust_sat)),
    );
    row(
        "at first",
        format!(
            "the relay takes {} until {} confirmations",
            msat(quote.unconfirmed_msat),
            quote.deep_blocks
        ),
    );
    row("wallet", format!("{} can be spent", sat(quote.wallet_sat)));
    row("price", show::price(&quote.prices));
    text
}
