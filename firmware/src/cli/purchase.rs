//! Buying, with a progress bar.

use super::amount::{bytes, msat, sat};
use super::arguments::BuyOptions;
use super::interrupt::{self, Bought};
use super::{Failure, Output, Place, channel, daemon, show};
use crate::control::{Message, Prices, Progress, Purchase, PurchaseState, Request, Response, StopCause};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use turnpike_protocol::base::{ByteCount, Msat, Sat};

pub(super) fn buy(place: &Place, output: &Output, options: &BuyOptions) -> Result<(), Failure> {
    let bought = Bought::default();
    // With --auto the daemon finds the relay itself and opens what is needed: that is the owner's consent.
    if !options.auto {
        let quote = channel::quote(place, &options.open)?;
        bought.from(quote.relay);
        if quote.open_slot.is_none() {
            channel::enough(&quote)?;
        }
        output.note(&order(
            options.mib.map(ByteCount::new),
            Sat::new(options.max_sat),
            &quote.prices,
        ));
        if quote.open_slot.is_none() {
            channel::consent(output, &quote, options.open.yes)?;
            let opened = channel::open(place, output, &options.open, &quote)?;
            step(output, &Message::Done(opened.clone()), &show::response(&opened))?;
        }
    }
    let request = Request::Buy {
        relay: options.open.relay.clone(),
        bytes: options.mib.map(ByteCount::new),
        max_sat: Sat::new(options.max_sat),
        auto: options.auto,
        capacity_sat: options.open.capacity_sat.map(Sat::new),
        lifetime_blocks: options.open.lifetime_blocks,
    };
    let mut meter = output.bar().then(|| Meter::new(options));
    interrupt::watch(place, output, &bought)?;
    let result = daemon::ask_with(place, request, |progress| {
        if let Progress::Purchase(purchase) = &progress {
            bought.from(purchase.relay);
        }
        match (&mut meter, &progress) {
            (Some(meter), Progress::Purchase(purchase)) => {
                meter.show(purchase);
                Ok(())
            }
            (Some(meter), progress) => {
                meter.bar.println(show::progress(progress));
                Ok(())
            }
            // A line a second would only fill a log.
            (None, Progress::Purchase(_)) if !output.json => Ok(()),
            (None, _) => step(
                output,
                &Message::Progress(progress.clone()),
                &show::progress(&progress),
            ),
        }
    });
    if let Some(meter) = meter {
        meter.bar.finish_and_clear();
    }
    bought.told();
    let response = result?;
    let Response::Bought(purchase) = &response else {
        return Err(daemon::unexpected());
    };
    output.line(&Message::Done(response.clone()), &show::response(&response))?;
    judge(purchase)
}

/// What the order comes to at these prices, and where the allowed money ends it.
pub(super) fn order(ordered: Option<ByteCount>, max: Sat, prices: &Prices) -> String {
    const MIB: u128 = 1 << 20;
    let dearest = prices.up_msat_per_mib.max(prices.down_msat_per_mib);
    let per_mib = u128::from(dearest.value());
    let allowed = u128::from(max.value()) * 1_000;
    let shown = |count: u128| bytes(ByteCount::new(u64::try_from(count).unwrap_or(u64::MAX)));
    let time = if prices.msat_per_second > Msat::ZERO {
        format!(
            "; each second of open service costs {} of it",
            msat(prices.msat_per_second)
        )
    } else {
        String::new()
    };
    // What is paid goes by whole packets of both directions: the dearer direction is the most it can be.
    let buys = (allowed * MIB).checked_div(per_mib).map(shown);
    match (ordered, buys) {
        (_, None) => format!("order: the bytes cost nothing{time}"),
        (None, Some(buys)) => format!("order: {} buys {buys}{time}", sat(max)),
        (Some(ordered), Some(buys)) => {
            let cost = (u128::from(ordered.value()) * per_mib).div_ceil(MIB);
            let cost_text = msat(Msat::new(u64::try_from(cost).unwrap_or(u64::MAX)));
            let mut text = format!("order: {} cost {cost_text} at most{time}", bytes(ordered));
            if cost > allowed {
                text.push_str(&format!(
                    "; --max-sat {} is sure to buy only {buys} of that",
                    max.value()
                ));
            }
            text
        }
    }
}

/// In JSON every step is a line as it stands on the control socket; for people it is a note.
fn step(output: &Output, message: &Message, text: &str) -> Result<(), Failure> {
    if output.json {
        return output.line(message, "");
    }
    output.note(text);
    Ok(())
}

/// Whether the owner got what was ordered.
pub(super) fn judge(purchase: &Purchase) -> Result<(), Failure> {
    let why = match (purchase.state, purchase.cause) {
        (PurchaseState::Done | PurchaseState::Paid, _) => return Ok(()),
        (PurchaseState::Stopped, Some(StopCause::User)) => return Ok(()),
        (PurchaseState::Stopped, Some(StopCause::MaxSpent)) if purchase.ordered_bytes.is_none() => {
            return Ok(());
        }
        (PurchaseState::Stopped, Some(StopCause::MaxSpent)) => {
            "everything allowed is spent before all was bought: allow more with --max-sat"
        }
        (PurchaseState::Stopped, Some(StopCause::OverClaim)) => {
            "the relay claims more than was counted here, and the proof is kept: do not buy from it, or raise \
             client.loss_tolerance if your link loses packets"
        }
        (PurchaseState::Stopped, Some(StopCause::UnderGrant)) => {
            "the relay grants less than was paid for: do not buy from it"
        }
        (PurchaseState::Stopped, Some(StopCause::MeterDown)) => {
            "the own meter cannot be read, so nothing more was paid: run `turnpike doctor`"
        }
        (PurchaseState::Stopped, Some(StopCause::PayFailed)) => {
            "the payment could not be made: see `turnpike channel list`"
        }
        (PurchaseState::Stopped, Some(StopCause::Refused)) => purchase
            .refusal
            .as_deref()
            .unwrap_or("the relay refused: try another one"),
        (PurchaseState::ChannelUsedUp, _) => "the channel is used up: open another one, or buy with --auto",
        (PurchaseState::Ceiling, _) => {
            "the relay takes no more in this channel until it is confirmed: wait for blocks, and go on"
        }
        _ => "the purchase ended before its end: see `turnpike status`",
    };
    Err(Failure::new(why))
}

/// The bar: bytes where bytes were ordered, else money.
struct Meter {
    bar: ProgressBar,
    by_bytes: bool,
}

impl Meter {
    fn new(options: &BuyOptions) -> Meter {
        let by_bytes = options.mib.is_some();
        let length = options.mib.unwrap_or(options.max_sat.saturating_mul(1_000));
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3}% {msg}") {
            bar.set_style(style);
        }
        Meter { bar, by_bytes }
    }

    fn show(&self, purchase: &Purchase) {
        let done = if self.by_bytes {
            purchase.used_bytes.value()
        } else {
            purchase.spent_msat.value()
        };
        self.bar.set_position(done);
        self.bar.set_message(format!(
            "{} used, {}/s, {} of {} spent, {} ahead",
            bytes(purchase.used_bytes),
            bytes(purchase.bytes_per_second),
            msat(purchase.spent_msat),
            msat(purchase.max_msat),
            bytes(purchase.left_bytes),
        ));
    }
}
