//! What a relay that has nothing to do costs: one peer connected, no traffic, the chain asked as often as the
//! default configuration says.

use std::fs;
use std::time::{Duration, Instant};
use turnpike_tests::figure::Figure;
use turnpike_tests::lab::Plan;
use turnpike_tests::site::{ChainKind, Site, wait_for};

const TIME: Duration = Duration::from_secs(60);
/// What start-up leaves to be done.
const SETTLE: Duration = Duration::from_secs(15);
/// The default of `chain.poll`.
const POLL: &str = "10 s";

/// Resident memory and wake-ups of the relay's daemon, as the kernel counts them.
pub fn idle() -> Vec<Figure> {
    let mut site = Site::polling(Plan::default(), ChainKind::Play, 1_000, "", POLL);
    site.start();
    site.mine(1);
    let address = site.relay_address().to_string();
    site.clients[0].ask(&["connect", &address]);
    wait_for("the session", || {
        site.relay.ask(&["status"])["sessions"]
            .as_array()
            .is_some_and(|p| !p.is_empty())
    });
    std::thread::sleep(SETTLE);
    let process = site.relay.process().expect("the relay runs");
    let (before, start) = (switches(process), Instant::now());
    std::thread::sleep(TIME);
    let (after, seconds) = (switches(process), start.elapsed().as_secs_f64());
    let resident = resident_kib(process);
    let connected = site.relay.ask(&["status"])["sessions"]
        .as_array()
        .map_or(0, Vec::len);
    assert_eq!(connected, 1, "the peer stayed connected");
    let each: Vec<String> = after
        .iter()
        .map(|(task, n)| format!("{task} {}", n - count(&before, task)))
        .collect();
    let sum: u64 = after.iter().map(|(task, n)| n - count(&before, task)).sum();
    let note = format!(
        "voluntary context switches of all threads over {seconds:.0} s, chain asked every {POLL}: {}",
        each.join(", ")
    );
    vec![
        Figure::new(
            "idle_rss_kib",
            resident as f64,
            "KiB",
            "limit",
            24_576.0,
            "<= 24576",
            "VmRSS of the relay's daemon with one peer connected",
        ),
        Figure::new(
            "idle_wakeups",
            sum as f64 / seconds,
            "per second",
            "limit",
            1.0,
            "<= 1",
            note,
        ),
    ]
}

fn count(tasks: &[(String, u64)], task: &str) -> u64 {
    tasks.iter().find(|(name, _)| name == task).map_or(0, |(_, n)| *n)
}

/// Voluntary context switches by thread: each is a sleep, so each but the last was ended by a wake-up.
fn switches(process: u32) -> Vec<(String, u64)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("the daemon's threads");
    let mut found = Vec::new();
    for task in tasks.flatten() {
        // A thread that ended meanwhile has no status.
        let Ok(status) = fs::read_to_string(task.path().join("status")) else {
            continue;
        };
        let name = format!(
            "{}/{}",
            field(&status, "Name:"),
            task.file_name().to_string_lossy()
        );
        found.push((
            name,
            field(&status, "voluntary_ctxt_switches:")
                .parse()
                .expect("a number"),
        ));
    }
    found
}

fn resident_kib(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the daemon runs");
    field(&status, "VmRSS:")
        .trim_end_matches(" kB")
        .parse()
        .expect("a number")
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status
        .lines()
        .find_map(|l| l.strip_prefix(name))
        .map_or("", str::trim)
}
