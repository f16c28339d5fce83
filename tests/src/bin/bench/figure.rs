//! A measured number and what it is held against.

use serde::Serialize;
use std::fmt::Write;

/// One line of the table and of `target/bench.json`.
#[derive(Clone, Serialize)]
pub struct Figure {
    /// Its name.
    pub name: &'static str,
    /// As measured.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// What it is held against.
    pub against: String,
    /// That, as measured in the same run (or the limit).
    pub against_value: f64,
    /// value / against_value.
    pub ratio: f64,
    /// What the project promises, for people.
    pub goal: &'static str,
    /// Spread and circumstances, for people.
    pub note: String,
}

impl Figure {
    /// A figure held against another.
    pub fn new(
        name: &'static str,
        value: f64,
        unit: &'static str,
        against: impl Into<String>,
        against_value: f64,
        goal: &'static str,
        note: impl Into<String>,
    ) -> Figure {
        Figure {
            name,
            value,
            unit,
            against: against.into(),
            against_value,
            ratio: value / against_value,
            goal,
            note: note.into(),
        }
    }
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

/// The figures as a table.
pub fn table(figures: &[Figure]) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "{:<24} {:>12} {:<14} {:>10}  {:<14} against",
        "figure", "value", "unit", "ratio", "goal"
    );
    for f in figures {
        let _ = writeln!(
            text,
            "{:<24} {:>12.1} {:<14} {:>10.3}  {:<14} {} ({:.1})",
            f.name, f.value, f.unit, f.ratio, f.goal, f.against, f.against_value
        );
        if !f.note.is_empty() {
            let _ = writeln!(text, "{:<24} {}", "", f.note);
        }
    }
    text
}
