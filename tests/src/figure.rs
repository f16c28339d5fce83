//! A measured number and what it is held against.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt::Write;
use std::io;
use std::path::Path;

/// One line of the table.
#[derive(Clone, Serialize, Deserialize)]
pub struct Figure {
    /// Its name.
    pub name: String,
    /// As measured.
    pub value: f64,
    /// Of what.
    pub unit: String,
    /// What it is held against, if anything.
    pub against: Option<String>,
    /// That, as measured in the same run (or the limit).
    pub against_value: Option<f64>,
    /// Median of value / against, pair by pair where there are pairs; `None` where that means nothing.
    pub ratio: Option<f64>,
    /// What the project promises, for people.
    pub goal: String,
    /// Spread and circumstances, for people.
    pub note: String,
}

/// One entry of `target/bench.json`.
#[derive(Serialize)]
pub struct Entry<'a> {
    name: &'a str,
    value: f64,
    unit: &'a str,
    against: Option<&'a str>,
    against_value: Option<f64>,
    ratio: Option<f64>,
}

impl Figure {
    /// A figure held against another, or against a limit.
    pub fn new(
        name: &str,
        value: f64,
        unit: &str,
        against: impl Into<String>,
        against_value: f64,
        goal: &str,
        note: impl Into<String>,
    ) -> Figure {
        let ratio = Some(value / against_value).filter(|r| r.is_finite());
        Figure {
            against: Some(against.into()),
            against_value: Some(against_value),
            ratio,
            ..Figure::alone(name, value, unit, goal, note)
        }
    }

    /// A figure that is only reported.
    pub fn alone(name: &str, value: f64, unit: &str, goal: &str, note: impl Into<String>) -> Figure {
        Figure {
            name: name.to_owned(),
            value,
            unit: unit.to_owned(),
            against: None,
            against_value: None,
            ratio: None,
            goal: goal.to_owned(),
            note: note.into(),
        }
    }

    /// What `target/bench.json` says of it.
    pub fn entry(&self) -> Entry<'_> {
        Entry {
            name: &self.name,
            value: self.value,
            unit: &self.unit,
            against: self.against.as_deref(),
            against_value: self.against_value,
            ratio: self.ratio,
        }
    }
}

/// Adds figures to a file of entries such as `target/bench.json`, in place of those of the same names.
///
/// # Errors
/// The file cannot be written. One that cannot be read counts as empty.
pub fn add(path: &Path, figures: &[Figure]) -> io::Result<()> {
    let old = std::fs::read(path).unwrap_or_default();
    let mut entries: Vec<Value> = serde_json::from_slice(&old).unwrap_or_default();
    entries.retain(|entry| figures.iter().all(|f| entry["name"] != f.name.as_str()));
    entries.extend(figures.iter().map(|f| json!(f.entry())));
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(path, serde_json::to_string_pretty(&entries)? + "\n")
}

/// The middle of some numbers.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

/// The value that `part` of the numbers do not exceed.
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(place.max(1) - 1).copied().unwrap_or(f64::NAN)
}

/// The figures as a table.
pub fn table(figures: &[Figure]) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<24} {:>12} {:<14} {:>8}  {:<10} against",
        "figure", "value", "unit", "ratio", "goal"
    );
    for f in figures {
        let ratio = f.ratio.map_or("-".to_owned(), |r| format!("{r:.3}"));
        let against = f
            .against
            .as_ref()
            .zip(f.against_value)
            .map_or("-".to_owned(), |(a, v)| format!("{a} ({v:.1})"));
        let _ = writeln!(
            text,
            "{:<24} {:>12.1} {:<14} {ratio:>8}  {:<10} {against}",
            f.name, f.value, f.unit, f.goal
        );
        if !f.note.is_empty() {
            let _ = writeln!(text, "{:<24} {}", "", f.note);
        }
    }
    text
}
