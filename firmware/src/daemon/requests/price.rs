//! Prices: show, set, and read again from the configuration.

use super::{Desk, refusal};
use crate::config::{Config, PriceConfig};
use crate::control::{Failed, PriceChange, Prices, Response};
use turnpike_protocol::node::{Command, Node, RelayConfig};

impl Desk {
    pub(super) async fn price_show(&self) -> Result<Response, Failed> {
        self.core
            .look(in_force)
            .await?
            .map(Response::Prices)
            .ok_or_else(sells_nothing)
    }

    pub(super) async fn price_set(&self, change: PriceChange) -> Result<Response, Failed> {
        self.sell(|relay| set(relay, change)).await
    }

    pub(super) async fn price_reload(&self) -> Result<Response, Failed> {
        let config = Config::read(self.config.path()).map_err(refusal::usage)?;
        self.sell(|relay| set(relay, change_to(&config.price))).await
    }

    async fn sell(&self, change: impl FnOnce(&mut RelayConfig)) -> Result<Response, Failed> {
        let mut relay = self
            .core
            .look(|n| n.relay_config().copied())
            .await?
            .ok_or_else(sells_nothing)?;
        change(&mut relay);
        self.core
            .command(Command::Sell(relay))
            .await?
            .map_err(refusal::command)?;
        self.price_show().await
    }
}

/// What the relay sells now.
pub(super) fn in_force(node: &Node) -> Option<Prices> {
    let free_total = node.relay_config()?.free_total;
    Some(Prices {
        free_total_bytes: Some(free_total),
        ..Prices::from(node.sheet()?)
    })
}

/// The change after which everything is as configured.
fn change_to(config: &PriceConfig) -> PriceChange {
    PriceChange {
        up_msat_per_mib: Some(config.up),
        down_msat_per_mib: Some(config.down),
        msat_per_second: Some(config.per_second),
        free_bytes: Some(config.free),
        free_total_bytes: Some(config.free_total),
        window_min_bytes: Some(config.window_min),
        window_max_bytes: Some(config.window_max),
    }
}

fn set(relay: &mut RelayConfig, change: PriceChange) {
    let sheet = &mut relay.sheet;
    sheet.up = change.up_msat_per_mib.unwrap_or(sheet.up);
    sheet.down = change.down_msat_per_mib.unwrap_or(sheet.down);
    sheet.per_second = change.msat_per_second.unwrap_or(sheet.per_second);
    sheet.free = change.free_bytes.unwrap_or(sheet.free);
    sheet.window_min = change.window_min_bytes.unwrap_or(sheet.window_min);
    sheet.window_max = change.window_max_bytes.unwrap_or(sheet.window_max);
    relay.free_total = change.free_total_bytes.unwrap_or(relay.free_total);
}

fn sells_nothing() -> Failed {
    Failed::usage(
        "this node sells nothing",
        "set enabled = true in [relay] of turnpike.toml, and restart turnpiked",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use turnpike_protocol::base::{BlockHeight, ByteCount, Msat};
    use turnpike_protocol::market::AccountConfig;
    use turnpike_protocol::money::channel::PayeePolicy;
    use turnpike_protocol::wire::{BindingClass, PriceSheet};

    fn relay() -> RelayConfig {
        let sheet = PriceSheet {
            version: 3,
            valid_until: BlockHeight::new(9),
            up: Msat::new(1),
            down: Msat::new(2),
            per_second: Msat::new(3),
            free: ByteCount::new(4),
            window_min: ByteCount::new(5),
            window_max: ByteCount::new(6),
            class: BindingClass::Address,
        };
        RelayConfig {
            policy: PayeePolicy::default(),
            sheet,
            account: AccountConfig::default(),
            free_total: ByteCount::new(7),
        }
    }

    #[test]
    fn what_is_left_out_of_a_change_stays() {
        let mut changed = relay();
        set(
            &mut changed,
            PriceChange {
                down_msat_per_mib: Some(Msat::new(20)),
                ..PriceChange::default()
            },
        );
        assert_eq!(
            changed,
            RelayConfig {
                sheet: PriceSheet {
                    down: Msat::new(20),
                    ..relay().sheet
                },
                ..relay()
            }
        );
    }

    #[test]
    fn a_reload_sets_every_price_of_the_file() {
        let file = PriceConfig {
            up: Msat::new(10),
            down: Msat::new(20),
            per_second: Msat::new(30),
            free: ByteCount::new(40),
            free_total: ByteCount::new(70),
            window_min: ByteCount::new(50),
            window_max: ByteCount::new(60),
        };
        let mut changed = relay();
        set(&mut changed, change_to(&file));
        let sheet = PriceSheet {
            up: Msat::new(10),
            down: Msat::new(20),
            per_second: Msat::new(30),
            free: ByteCount::new(40),
            window_min: ByteCount::new(50),
            window_max: ByteCount::new(60),
            ..relay().sheet
        };
        assert_eq!(
            changed,
            RelayConfig {
                sheet,
                free_total: ByteCount::new(70),
                ..relay()
            }
        );
    }
}
