//! Keys and values of a file, with the places where they stand.

use super::finding::{Finding, Weight};
use super::source::{Kind, Source};
use crate::config::{ConfigError, line_of};
use std::fmt::{self, Write as _};
use std::ops::Range;
use std::path::PathBuf;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Stands where a secret stood before it was moved off the open partition. Fixed for ever: cards out there have it.
pub const MOVED: &str = "(moved off this partition; write a new value to change it)";

/// Keys whose values leave the open partition; in `rpi-preseed.toml` also below `mesh`.
const SECRETS: [(&str, &str); 3] = [
    ("wifi", "password"),
    ("access_point", "password"),
    ("chain", "password"),
];
const PRESEED_SECRETS: [(&str, &str); 3] = [("wlan", "password"), ("user", "password"), ("connect", "token")];

/// A value, as far as settings have such ones.
#[derive(Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Whole(i64),
    Flag(bool),
    List(Vec<Value>),
    /// What no key takes: something else of its type, so that a reader names the type.
    Other(String),
}

/// One key with its value.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Entry {
    /// Names in `turnpike.toml`.
    pub section: String,
    pub key: String,
    pub value: Value,
    pub kind: Kind,
    /// File, line and name that the owner knows it by.
    file: PathBuf,
    line: usize,
    dotted: String,
    /// Bytes of the value in the file's text.
    span: Range<usize>,
}

/// All entries of a file, in the order of its text.
pub(super) fn entries(source: &Source) -> Vec<Entry> {
    // Texts that are no TOML are no sources.
    let Ok(table) = DeTable::parse(&source.text) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    collect(source, table.get_ref(), &mut Vec::new(), &mut found);
    found.sort_by_key(|entry| entry.span.start);
    found
}

/// Sections are one level deep, and two levels below `mesh`.
fn collect<'i>(source: &Source, table: &DeTable<'i>, above: &mut Vec<String>, found: &mut Vec<Entry>) {
    for (name, value) in table {
        let key: &str = name.get_ref();
        let depth = match above.first() {
            Some(first) if first == "mesh" && source.kind == Kind::Preseed => 2,
            _ => 1,
        };
        match value.get_ref() {
            DeValue::Table(below) if above.len() < depth => {
                above.push(key.to_owned());
                found.push(Entry::header(source, above, name.span()));
                collect(source, below, above, found);
                above.pop();
            }
            _ => found.push(Entry::new(source, above, name, value)),
        }
    }
}

impl Entry {
    /// The section itself: an empty one says something, too.
    fn header(source: &Source, above: &[String], span: Range<usize>) -> Entry {
        let dotted = above.join(".");
        Entry {
            section: dotted.clone(),
            key: String::new(),
            value: Value::Other("{}".to_owned()),
            kind: source.kind,
            file: PathBuf::from(&source.name),
            line: line_of(&source.text, span.start),
            dotted,
            span,
        }
    }

    fn new(
        source: &Source,
        above: &[String],
        name: &Spanned<impl AsRef<str>>,
        value: &Spanned<DeValue<'_>>,
    ) -> Entry {
        let key = name.get_ref().as_ref().to_owned();
        let mut dotted = above.join(".");
        if !dotted.is_empty() {
            dotted.push('.');
        }
        dotted.push_str(&key);
        Entry {
            section: above.join("."),
            key,
            value: Value::new(value.get_ref()),
            kind: source.kind,
            file: PathBuf::from(&source.name),
            line: line_of(&source.text, name.span().start),
            dotted,
            span: value.span(),
        }
    }

    /// It stands in this section of `turnpike.toml` under this key.
    pub(super) fn is(&self, section: &str, key: &str) -> bool {
        self.section == section && self.key == key
    }

    /// It is a section, not a key of one.
    pub(super) fn is_header(&self) -> bool {
        self.key.is_empty()
    }

    /// A text that does not stay on the open partition.
    pub(super) fn secret(&self) -> Option<&str> {
        let named = |(section, key): &(&str, &str)| {
            let name = format!("{section}.{key}");
            match self.kind {
                Kind::Own => self.dotted == name,
                Kind::Preseed => self.dotted.strip_prefix("mesh.") == Some(&name),
            }
        };
        let preseed = |(section, key): &(&str, &str)| self.dotted == format!("{section}.{key}");
        let is =
            SECRETS.iter().any(named) || self.kind == Kind::Preseed && PRESEED_SECRETS.iter().any(preseed);
        match &self.value {
            Value::Text(text) if is => Some(text),
            _ => None,
        }
    }

    /// It says that its secret was moved.
    pub(super) fn is_moved(&self) -> bool {
        self.secret() == Some(MOVED)
    }

    /// Its name in its file.
    pub(super) fn dotted(&self) -> &str {
        &self.dotted
    }

    /// Where its value stands in its file's text.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// A line about it.
    pub(super) fn finding(&self, weight: Weight, what: impl ToString, remedy: impl ToString) -> Finding {
        let line = ConfigError::new(&self.file, Some(self.line), &self.dotted, what, remedy);
        Finding::about(weight, self.kind, &self.section, line)
    }

    /// The same line, about it.
    pub(super) fn blame(&self, weight: Weight, line: ConfigError) -> Finding {
        let line = line.at(&self.file, Some(self.line), &self.dotted);
        Finding::about(weight, self.kind, &self.section, line)
    }

    /// The same line, about what is missing beside it.
    pub(super) fn missing(&self, line: ConfigError) -> Finding {
        let key = line.key().to_owned();
        let line = line.at(&self.file, None, &key);
        Finding::about(Weight::Wrong, self.kind, &self.section, line)
    }

    /// The texts of a list, or the one text that it is.
    pub(super) fn texts(&self) -> Option<Vec<&str>> {
        match &self.value {
            Value::Text(text) => Some(vec![text]),
            Value::List(list) => list
                .iter()
                .map(|item| match item {
                    Value::Text(text) => Some(text.as_str()),
                    _ => None,
                })
                .collect(),
            _ => None,
        }
    }
}

impl Value {
    fn new(value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.clone().into_owned()),
            DeValue::Boolean(flag) => Value::Flag(*flag),
            DeValue::Integer(number) => {
                let parsed = i64::from_str_radix(number.as_str(), number.radix());
                parsed.map_or_else(|_| Value::Other("0.5".to_owned()), Value::Whole)
            }
            DeValue::Float(_) => Value::Other("0.5".to_owned()),
            DeValue::Datetime(_) => Value::Other("1970-01-01".to_owned()),
            DeValue::Array(list) => Value::List(list.iter().map(|item| Value::new(item.get_ref())).collect()),
            DeValue::Table(_) => Value::Other("{}".to_owned()),
        }
    }

    /// As TOML on one line.
    pub(super) fn toml(&self) -> String {
        match self {
            Value::Text(text) => quoted(text),
            Value::Whole(number) => number.to_string(),
            Value::Flag(flag) => flag.to_string(),
            Value::List(list) => {
                let items: Vec<_> = list.iter().map(Value::toml).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Other(text) => text.clone(),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Any of them may be a secret that stands under the wrong key.
        f.write_str("Value(…)")
    }
}

/// A text as a basic string of TOML.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
