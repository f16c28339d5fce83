//! Sales per day and client, for the owner's books.
//!
//! The accounts count over their whole life; now and then what was added since the last time is put down to the day
//! on which it was seen. What the accounts lose to a power cut is put down again once they are past it, never twice. A
//! node without a clock puts it down to the day's worth of blocks it is in.

use super::core::{CoreHandle, Down};
use crate::control::{Hex, SalesRow};
use crate::store::{Store, StoreError, Table, Write};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use turnpike_protocol::base::{BlockHeight, ByteCount, Msat, NodeId};
use turnpike_protocol::node::SoldView;

/// How often sales are put down. What is sold within it is put down to the day of its end.
const EVERY: Duration = Duration::from_secs(10 * 60);
/// Blocks of a day without a clock.
const BLOCKS_PER_DAY: u32 = 144;
/// A clock that shows less was never set: 2026-01-01, before the first release, in days since 1970.
const FIRST_DAY: u64 = 20_454;
/// A clock that shows more runs wild: 2100-01-01.
const LAST_DAY: u64 = 47_482;
const SECONDS_PER_DAY: u64 = 86_400;
/// First byte of a key: what was sold on a day; then the kind of day, the day, the client.
const SOLD: u8 = b's';
/// First byte of a key: what was put down so far; then the client.
const SEEN: u8 = b'l';
/// First byte of every value.
const FORMAT: u8 = 1;

/// A day, by whatever the node knows of time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Day {
    /// So many days of blocks since the chain began.
    Blocks(u32),
    /// Days since 1970-01-01, UTC.
    Date(u32),
}

/// What was sold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Sum {
    up: ByteCount,
    down: ByteCount,
    cost: Msat,
    paid: Msat,
    lost: Msat,
    /// The height when it was put down last: orders days with and without a date.
    height: BlockHeight,
}

/// Puts sales down until the daemon goes down.
pub async fn keep(core: CoreHandle) {
    let mut due = tokio::time::interval(EVERY);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        if update(&core).await.is_err() {
            return;
        }
    }
}

/// Puts down what was sold since the last time.
///
/// # Errors
/// [`Down`]. A store that cannot be written is the core's matter, which ends then.
pub async fn update(core: &CoreHandle) -> Result<(), Down> {
    let (sold, height) = core.look(|n| (n.sold(), n.view().height)).await?;
    let day = Day::of(SystemTime::now(), height);
    let put = core
        .store(move |store| put_down(store, day, height, &sold))
        .await?;
    if let Err(error) = put {
        tracing::warn!(%error, "sales were not put down");
    }
    Ok(())
}

/// Sales by day and client, the newest day first; at most so many days.
///
/// # Errors
/// [`StoreError`] where they cannot be read.
pub fn list(store: &Store, days: Option<u32>) -> Result<Vec<SalesRow>, StoreError> {
    let mut found: BTreeMap<Day, Vec<(NodeId, Sum)>> = BTreeMap::new();
    for row in store.load(Table::Sale)? {
        if let (Some((day, client)), Some(sum)) = (sold_on(&row.key), read::<Sum>(&row.value)) {
            found.entry(day).or_default().push((client, sum));
        }
    }
    let newest = |rows: &[(NodeId, Sum)]| rows.iter().map(|(_, s)| s.height).max();
    let mut found: Vec<_> = found.into_iter().collect();
    found.sort_by_key(|(day, rows)| std::cmp::Reverse((newest(rows), *day)));
    let days = days.map_or(usize::MAX, |d| usize::try_from(d).unwrap_or(usize::MAX));
    let rows = found.into_iter().take(days).flat_map(|(day, rows)| {
        rows.into_iter().map(move |(client, sum)| SalesRow {
            day: day.to_string(),
            client: Hex(client),
            up_bytes: sum.up,
            down_bytes: sum.down,
            cost_msat: sum.cost,
            paid_msat: sum.paid,
            lost_msat: sum.lost,
        })
    });
    Ok(rows.collect())
}

fn put_down(store: &Store, day: Day, height: BlockHeight, sold: &[SoldView]) -> Result<(), StoreError> {
    let mut rows = Vec::new();
    for view in sold {
        let now = Sum {
            up: view.up,
            down: view.down,
            cost: view.cost,
            paid: view.paid,
            lost: view.lost,
            height,
        };
        let seen_key = seen_key(&view.client);
        let seen = stored(store, &seen_key)?;
        let added = now.since(&seen);
        if added
            == (Sum {
                height,
                ..Sum::default()
            })
        {
            continue;
        }
        let key = sold_key(day, &view.client);
        let sum = stored(store, &key)?.plus(&added);
        rows.push((key, value(&sum)));
        rows.push((seen_key, value(&now.or_more(&seen))));
    }
    if rows.is_empty() {
        return Ok(());
    }
    let writes: Vec<Write<'_>> = rows
        .iter()
        .map(|(key, value)| Write::Put {
            table: Table::Sale,
            key,
            value,
        })
        .collect();
    store.commit(&writes)
}

fn stored(store: &Store, key: &[u8]) -> Result<Sum, StoreError> {
    Ok(store
        .read(Table::Sale, key)?
        .and_then(|row| read(&row))
        .unwrap_or_default())
}

fn read<T: DeserializeOwned>(row: &[u8]) -> Option<T> {
    match row.split_first() {
        Some((&FORMAT, body)) => postcard::from_bytes(body).ok(),
        _ => None,
    }
}

fn value(sum: &Sum) -> Vec<u8> {
    // Writing plain numbers into memory cannot fail; an empty row reads as none.
    postcard::to_extend(sum, vec![FORMAT]).unwrap_or_default()
}

fn seen_key(client: &NodeId) -> Vec<u8> {
    [&[SEEN], client.as_bytes().as_slice()].concat()
}

fn sold_key(day: Day, client: &NodeId) -> Vec<u8> {
    let (kind, number) = match day {
        Day::Blocks(number) => (b'h', number),
        Day::Date(number) => (b'd', number),
    };
    [&[SOLD, kind], number.to_be_bytes().as_slice(), client.as_bytes()].concat()
}

/// The day and the client of a row; `None` for rows of another kind.
fn sold_on(key: &[u8]) -> Option<(Day, NodeId)> {
    let rest = key.strip_prefix(&[SOLD])?;
    let (kind, rest) = rest.split_first()?;
    let (number, client) = rest.split_first_chunk::<4>()?;
    let number = u32::from_be_bytes(*number);
    let day = match kind {
        b'h' => Day::Blocks(number),
        b'd' => Day::Date(number),
        _ => return None,
    };
    Some((day, NodeId::from_bytes(client.try_into().ok()?)))
}

impl Sum {
    /// What was added since `seen`; nothing where a power cut took something back.
    fn since(&self, seen: &Sum) -> Sum {
        Sum {
            up: self.up.saturating_sub(seen.up),
            down: self.down.saturating_sub(seen.down),
            cost: self.cost.saturating_sub(seen.cost),
            paid: self.paid.saturating_sub(seen.paid),
            lost: self.lost.saturating_sub(seen.lost),
            height: self.height,
        }
    }

    fn plus(&self, added: &Sum) -> Sum {
        Sum {
            up: self.up.saturating_add(added.up),
            down: self.down.saturating_add(added.down),
            cost: self.cost.saturating_add(added.cost),
            paid: self.paid.saturating_add(added.paid),
            lost: self.lost.saturating_add(added.lost),
            height: self.height.max(added.height),
        }
    }

    /// The larger of both, figure by figure: what was put down stays put down.
    fn or_more(&self, seen: &Sum) -> Sum {
        Sum {
            up: self.up.max(seen.up),
            down: self.down.max(seen.down),
            cost: self.cost.max(seen.cost),
            paid: self.paid.max(seen.paid),
            lost: self.lost.max(seen.lost),
            height: self.height,
        }
    }
}

impl Day {
    fn of(clock: SystemTime, height: BlockHeight) -> Day {
        let days = clock
            .duration_since(UNIX_EPOCH)
            .map_or(0, |t| t.as_secs() / SECONDS_PER_DAY);
        match u32::try_from(days) {
            Ok(number) if (FIRST_DAY..LAST_DAY).contains(&days) => Day::Date(number),
            _ => Day::Blocks(height.value() / BLOCKS_PER_DAY),
        }
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Day::Blocks(number) => write!(f, "height {}", number * BLOCKS_PER_DAY),
            Day::Date(number) => {
                let (year, month, day) = date(*number);
                write!(f, "{year:04}-{month:02}-{day:02}")
            }
        }
    }
}

/// The date of a day since 1970-01-01 in the Gregorian calendar.
fn date(day: u32) -> (u32, u32, u32) {
    let leap = |year: u32| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let (mut year, mut left) = (1970, day);
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if left < length {
            break;
        }
        left -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Origin;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.redb");
        Store::create(&path, Origin::New).unwrap();
        let store = Store::open(&path).unwrap();
        (folder, store)
    }

    fn sold(client: u8, bytes: u64) -> SoldView {
        SoldView {
            client: NodeId::from_bytes([client; 32]),
            up: ByteCount::new(bytes),
            down: ByteCount::new(2 * bytes),
            cost: Msat::new(bytes / 10),
            paid: Msat::new(bytes / 5),
            lost: Msat::ZERO,
        }
    }

    fn put(store: &Store, day: Day, height: u32, sold: &[SoldView]) {
        put_down(store, day, BlockHeight::new(height), sold).unwrap();
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        // Judged by `date -u -d @SECONDS +%F`.
        for (day, text) in [
            (0, "1970-01-01"),
            (11_016, "2000-02-29"),
            (20_454, "2026-01-01"),
            (20_777, "2026-11-20"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(Day::Date(day).to_string(), text);
        }
    }

    #[test]
    fn a_clock_that_was_never_set_counts_by_blocks() {
        let at = |seconds| {
            Day::of(
                UNIX_EPOCH + Duration::from_secs(seconds),
                BlockHeight::new(123_456),
            )
        };
        assert_eq!(at(0).to_string(), "height 123408");
        assert_eq!(at(20_777 * SECONDS_PER_DAY + 5).to_string(), "2026-11-20");
        assert_eq!(at(200_000 * SECONDS_PER_DAY).to_string(), "height 123408");
    }

    #[test]
    fn each_byte_is_put_down_once_to_the_day_on_which_it_was_seen() {
        let (_folder, store) = store();
        put(&store, Day::Date(20_500), 100, &[sold(1, 1_000)]);
        put(&store, Day::Date(20_500), 101, &[sold(1, 1_000)]);
        put(&store, Day::Date(20_501), 244, &[sold(1, 1_500), sold(2, 10)]);
        let rows = list(&store, None).unwrap();
        let seen: Vec<_> = rows
            .iter()
            .map(|r| (r.day.as_str(), r.up_bytes.value(), r.cost_msat.value()))
            .collect();
        assert_eq!(
            seen,
            [
                ("2026-02-17", 500, 50),
                ("2026-02-17", 10, 1),
                ("2026-02-16", 1_000, 100)
            ]
        );
        assert_eq!(list(&store, Some(1)).unwrap().len(), 2);
    }

    #[test]
    fn what_a_power_cut_takes_back_is_not_put_down_twice() {
        let (_folder, store) = store();
        put(&store, Day::Date(20_500), 100, &[sold(1, 1_000)]);
        put(&store, Day::Date(20_500), 100, &[sold(1, 900)]);
        put(&store, Day::Date(20_500), 100, &[sold(1, 1_100)]);
        let rows = list(&store, None).unwrap();
        assert_eq!((rows.len(), rows[0].up_bytes), (1, ByteCount::new(1_100)));
    }

    #[test]
    fn lost_money_stands_on_the_day_on_which_it_was_missed() {
        let (_folder, store) = store();
        let paid = sold(1, 1_000);
        put(&store, Day::Date(20_500), 100, &[paid]);
        // While the loss is not certain the money does not count; then it is booked.
        let missing = SoldView {
            paid: Msat::ZERO,
            ..paid
        };
        put(&store, Day::Date(20_501), 200, &[missing]);
        let lost = SoldView {
            lost: Msat::new(200),
            ..paid
        };
        put(&store, Day::Date(20_501), 206, &[lost]);
        let rows = list(&store, None).unwrap();
        let seen: Vec<_> = rows
            .iter()
            .map(|r| (r.day.as_str(), r.paid_msat.value(), r.lost_msat.value()))
            .collect();
        assert_eq!(seen, [("2026-02-17", 0, 200), ("2026-02-16", 200, 0)]);
    }

    #[test]
    fn days_without_a_date_stand_where_they_belong() {
        let (_folder, store) = store();
        put(&store, Day::Date(20_500), 100, &[sold(1, 1_000)]);
        put(&store, Day::Blocks(2), 300, &[sold(1, 1_100)]);
        put(&store, Day::Date(20_503), 500, &[sold(1, 1_200)]);
        let days: Vec<_> = list(&store, None).unwrap().into_iter().map(|r| r.day).collect();
        assert_eq!(days, ["2026-02-19", "height 288", "2026-02-16"]);
    }
}
