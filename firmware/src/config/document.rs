//! A TOML file as sections and keys that remember their lines, and complain when nobody asked for them.

use super::ConfigError;
use super::quantity::{Kind, QuantityError, percent};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A parsed file.
pub(super) struct Document<'i> {
    path: &'i Path,
    text: &'i str,
    table: DeTable<'i>,
    sections: Vec<&'static str>,
    strict: bool,
    unknown: Vec<ConfigError>,
    /// Line of every key that was read.
    pub(super) lines: BTreeMap<String, usize>,
}

/// One `[section]`. Reading a key marks it as known.
pub(super) struct Section<'d, 'i> {
    document: &'d Document<'i>,
    name: &'static str,
    table: Option<&'d DeTable<'i>>,
    known: RefCell<Vec<&'static str>>,
    lines: RefCell<BTreeMap<String, usize>>,
}

/// One key with its value.
pub(super) struct Entry<'d, 'i> {
    section: &'d Section<'d, 'i>,
    key: &'static str,
    line: usize,
    value: &'d DeValue<'i>,
}

impl<'i> Document<'i> {
    /// In a strict one, what nobody asks for is an error.
    pub(super) fn parse(path: &'i Path, text: &'i str, strict: bool) -> Result<Document<'i>, ConfigError> {
        let table = DeTable::parse(text).map_err(|error| {
            let line = error.span().map(|span| line_of(text, span.start));
            ConfigError::new(
                path,
                line,
                "",
                format!("this is not TOML ({})", error.message()),
                "write KEY = \"VALUE\" under a [SECTION]",
            )
        })?;
        Ok(Document {
            path,
            text,
            table: table.into_inner(),
            sections: Vec::new(),
            strict,
            unknown: Vec::new(),
            lines: BTreeMap::new(),
        })
    }

    /// Reads a section by `read` and refuses or notes keys of it that `read` did not ask for. A section that is not
    /// there has no keys.
    pub(super) fn section<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&Section<'_, 'i>) -> Result<T, ConfigError>,
    ) -> Result<T, ConfigError> {
        self.sections.push(name);
        let found = self.table.iter().find(|(key, _)| key.get_ref() == name);
        let table = match found.map(|(key, value)| (key, value.get_ref())) {
            None => None,
            Some((_, DeValue::Table(table))) => Some(table),
            Some((key, _)) => {
                return Err(self.error(
                    key,
                    name,
                    "this is a section, not a key",
                    format!("write [{name}] on a line of its own and its keys below"),
                ));
            }
        };
        let section = Section {
            document: self,
            name,
            table,
            known: RefCell::default(),
            lines: RefCell::default(),
        };
        let value = read(&section)?;
        let unknown = section.unknown();
        let lines = section.lines.into_inner();
        self.take_unknown(unknown)?;
        self.lines.extend(lines);
        Ok(value)
    }

    fn take_unknown(&mut self, unknown: Vec<ConfigError>) -> Result<(), ConfigError> {
        self.unknown.extend(unknown);
        match self.unknown.first() {
            Some(error) if self.strict => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Keys and sections that nobody asked for; refused in a strict document.
    pub(super) fn unknown(mut self) -> Result<Vec<ConfigError>, ConfigError> {
        let mut unknown = Vec::new();
        for (key, value) in self.table.iter() {
            let name: &str = key.get_ref();
            if !self.sections.contains(&name) {
                let what = match value.get_ref() {
                    DeValue::Table(_) => "there is no such section",
                    _ => "there is no such key outside of a section",
                };
                unknown.push(self.error(key, name, what, suggestion(name, &self.sections)));
            }
        }
        self.take_unknown(unknown)?;
        Ok(self.unknown)
    }

    fn error<T>(
        &self,
        at: &Spanned<T>,
        key: &str,
        what: impl ToString,
        remedy: impl ToString,
    ) -> ConfigError {
        ConfigError::new(
            self.path,
            Some(line_of(self.text, at.span().start)),
            key,
            what,
            remedy,
        )
    }
}

impl<'i> Section<'_, 'i> {
    /// The entry of a key, if the file has it.
    pub(super) fn entry(&self, key: &'static str) -> Option<Entry<'_, 'i>> {
        self.known.borrow_mut().push(key);
        let (name, value) = self.table?.iter().find(|(name, _)| name.get_ref() == key)?;
        let line = line_of(self.document.text, name.span().start);
        self.lines.borrow_mut().insert(self.dotted(key), line);
        Some(Entry {
            section: self,
            key,
            line,
            value: value.get_ref(),
        })
    }

    /// A key that must be there.
    pub(super) fn required(&self, key: &'static str, sample: &str) -> Result<Entry<'_, 'i>, ConfigError> {
        self.entry(key).ok_or_else(|| {
            let what = "this key is missing".to_owned();
            let remedy = format!("add {key} = {sample} under [{}]", self.name);
            ConfigError::new(self.document.path, None, &self.dotted(key), what, remedy)
        })
    }

    /// A quantity within bounds, in its kind's smallest unit.
    pub(super) fn quantity(
        &self,
        key: &'static str,
        kind: &Kind,
        bounds: RangeInclusive<u64>,
        default: u64,
    ) -> Result<u64, ConfigError> {
        match self.entry(key) {
            Some(entry) => entry.quantity(kind, bounds),
            None => Ok(default),
        }
    }

    pub(super) fn boolean(&self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        match self.entry(key) {
            Some(entry) => entry
                .value
                .as_bool()
                .ok_or_else(|| entry.wrong("true or false is wanted", format!("write {key} = true"))),
            None => Ok(default),
        }
    }

    /// An error about a key of this section.
    pub(super) fn error(&self, key: &'static str, what: impl ToString, remedy: impl ToString) -> ConfigError {
        let dotted = self.dotted(key);
        let line = self.lines.borrow().get(&dotted).copied();
        ConfigError::new(self.document.path, line, &dotted, what, remedy)
    }

    fn dotted(&self, key: &str) -> String {
        format!("{}.{key}", self.name)
    }

    fn unknown(&self) -> Vec<ConfigError> {
        let known = self.known.borrow();
        let keys = self.table.iter().flat_map(|table| table.keys());
        keys.filter(|name| !known.contains(&name.get_ref().as_ref()))
            .map(|name| {
                let what = "there is no such key";
                let key = name.get_ref();
                self.document
                    .error(name, &self.dotted(key), what, suggestion(key, &known))
            })
            .collect()
    }
}

impl<'d> Entry<'d, '_> {
    pub(super) fn text(&self) -> Result<&'d str, ConfigError> {
        self.value.as_str().ok_or_else(|| {
            let what = format!("a text in quotes is wanted, this is {}", self.found());
            self.wrong(what, format!("write {} = \"…\"", self.key))
        })
    }

    /// A text that `T` understands.
    pub(super) fn parsed<T: FromStr>(&self, remedy: impl Display) -> Result<T, ConfigError> {
        let text = self.text()?;
        text.parse()
            .map_err(|_| self.wrong(format!("\"{text}\" cannot be used here"), &remedy))
    }

    /// One text, or a list of texts.
    pub(super) fn texts(&self) -> Result<Vec<&'d str>, ConfigError> {
        let Some(list) = self.value.as_array() else {
            return Ok(vec![self.text()?]);
        };
        list.iter()
            .map(|item| {
                item.get_ref().as_str().ok_or_else(|| {
                    self.wrong(
                        "a list of texts is wanted",
                        format!("write {} = [\"…\", \"…\"]", self.key),
                    )
                })
            })
            .collect()
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        let text = self.text()?;
        match choices.iter().find(|(name, _)| *name == text) {
            Some((_, value)) => Ok(*value),
            None => {
                let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
                let what = format!("\"{text}\" is none of the choices");
                Err(self.wrong(what, suggestion(text, &names)))
            }
        }
    }

    pub(super) fn quantity(&self, kind: &Kind, bounds: RangeInclusive<u64>) -> Result<u64, ConfigError> {
        let (min, max) = (kind.show(*bounds.start()), kind.show(*bounds.end()));
        let range = format!("use {min} to {max}");
        let text = match self.value {
            DeValue::String(text) => text,
            DeValue::Integer(_) | DeValue::Float(_) => {
                let what = format!("wrong unit: a plain number is not {}", kind.noun);
                return Err(self.wrong(
                    what,
                    format!("write it with its unit, such as \"{}\"", kind.sample),
                ));
            }
            _ => {
                let what = format!("{} in quotes is wanted, this is {}", kind.noun, self.found());
                return Err(self.wrong(what, format!("write {} = \"{}\"", self.key, kind.sample)));
            }
        };
        let value = kind.parse(text).map_err(|error| match error {
            QuantityError::NoNumber => self.wrong(
                format!("\"{text}\" does not begin with a whole number"),
                format!("write it such as \"{}\"", kind.sample),
            ),
            QuantityError::NoUnit => self.wrong(
                format!("wrong unit: \"{text}\" has none"),
                format!("add {}, such as \"{}\"", kind.unit_list(), kind.sample),
            ),
            QuantityError::WrongUnit(unit) => self.wrong(
                format!("wrong unit: \"{unit}\" is no unit of {}", kind.noun),
                format!("use {}, such as \"{}\"", kind.unit_list(), kind.sample),
            ),
            QuantityError::TooLarge => self.wrong(format!("\"{text}\" overflows"), &range),
        })?;
        if !bounds.contains(&value) {
            let side = if value < *bounds.start() { "below" } else { "above" };
            let bound = if side == "below" { min } else { max };
            return Err(self.wrong(format!("\"{text}\" is {side} {bound}"), range));
        }
        Ok(value)
    }

    /// A percentage in parts per million.
    pub(super) fn percent(&self, max: u32) -> Result<u32, ConfigError> {
        let remedy = format!("write a percentage up to {} %, such as \"1 %\"", max / 10_000);
        let ppm = self.value.as_str().and_then(percent);
        match ppm {
            Some(ppm) if ppm <= max => Ok(ppm),
            Some(_) => Err(self.wrong("this is too much", remedy)),
            None => Err(self.wrong("wrong unit: this is no percentage", remedy)),
        }
    }

    pub(super) fn wrong(&self, what: impl ToString, remedy: impl ToString) -> ConfigError {
        let key = self.section.dotted(self.key);
        ConfigError::new(self.section.document.path, Some(self.line), &key, what, remedy)
    }

    fn found(&self) -> &'static str {
        match self.value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a section",
        }
    }
}

/// "did you mean …", or the whole choice where nothing is near.
pub(crate) fn suggestion(found: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(found, name), name))
        .min()
        .filter(|(distance, name)| *distance <= name.len().max(3) / 3);
    match near {
        Some((_, name)) => format!("did you mean {name}?"),
        None => format!("use one of {}", known.join(", ")),
    }
}

/// Line of a byte, from 1.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().get(..at.min(text.len())).unwrap_or_default();
    1 + before.iter().filter(|byte| **byte == b'\n').count()
}
