//! A node's identity and money, from one card to another.

use super::seed::{UNSEEN, is_empty, is_unseen, remove};
use super::setup::{Files, write_durably};
use super::{Failure, Output, Place, daemon};
use crate::chain::ChainName;
use crate::control::{Hex, Request, Response};
use crate::store::{
    CardId, Departure, MoveCode, Store, StoreError, finish_arrival, read_move, sum, take_over,
};
use crate::wallet::chain_of;
use serde_json::json;
use std::io::{BufRead, IsTerminal, Read, Write, stderr, stdin};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// Longest line that is read, bytes.
const MAX_LINE: u64 = 256;
/// Who says this has looked at the other card.
const UNDO: &str = "the new card never ran";

/// Says which card this is.
pub(super) fn id(place: &Place, output: &Output) -> Result<(), Failure> {
    let card = match daemon::ask(place, Request::Status) {
        Ok(Response::Status(status)) => status.card.clone(),
        // Nobody has it open.
        _ => open(Files::locate(place, None)?.store())?.card()?.to_string(),
    };
    output.line(&json!({ "card": card }), &card)
}

/// Stops this node and writes what the other card goes on with.
pub(super) fn leave(place: &Place, output: &Output, to: CardId, file: &Path) -> Result<(), Failure> {
    let files = Files::locate(place, None)?;
    finish_arrival(files.seed(), files.store())?;
    let seed = files.read_seed()?;
    let store = open(files.store())?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    let left = store.move_to(file, to, &seed.words(), !is_unseen(place), now)?;
    let Departure { code, backup, sha256 } = &left;
    let (code, sum) = (code.text(), Hex(*sha256).to_string());
    let document = json!({
        "path": file, "card": to.to_string(), "code": *code, "sha256": sum,
        "rows": backup.rows, "entries": backup.entries,
    });
    let text = Zeroizing::new(format!(
        "file    {}\nSHA-256 {sum}\nfor     card {to}, and no other\ncode    {}\n\n\
         This node has stopped for good: only that card goes on with its identity and money. There, with turnpiked stopped:\n\
         turnpike restore {}\n\
         Carry the code apart from the file: with both, whoever has them has the money. The same command gives both again.\n",
        file.display(),
        *code,
        file.display(),
    ));
    output.line(&document, &text)
}

/// Lets a node that has moved go on after all.
pub(super) fn undo(place: &Place, output: &Output) -> Result<(), Failure> {
    let files = Files::locate(place, None)?;
    let store = open(files.store())?;
    let Some(moved) = store.moved()? else {
        return Err(Failure::usage(
            "this node has not moved: there is nothing to undo",
        ));
    };
    let question = format!(
        "If card {} ever started with this node's money, or still does, going on here loses money: both would pay out of \
         the same channels. This node goes on as a restored one: it takes what its payers signed last and settles its \
         channels. Whoever is sure types: {UNDO}\n",
        moved.to
    );
    if line(&question)?.trim() != UNDO {
        return Err(Failure::new(format!(
            "nothing was changed: to undo the move, type \"{UNDO}\""
        )));
    }
    store.undo_move()?;
    output.line(
        &json!({ "card": store.card()?.to_string(), "undone": true }),
        "This node goes on, as a restored one, when turnpiked starts. Destroy the file and the other card.",
    )
}

/// Goes on with what another card left.
pub(super) fn arrive(files: &Files, output: &Output, file: &Path, to: CardId) -> Result<(), Failure> {
    let (seed, path) = (files.seed(), files.store());
    finish_arrival(seed, path)?;
    if path.symlink_metadata().is_err() {
        return Err(Failure::usage(format!(
            "{} is for card {to}, and there is no store here yet that could have an id: make one first with `turnpike \
             init`, and move to that one",
            file.display()
        )));
    }
    // In use until the end: no daemon starts in between.
    let store = open(path)?;
    if store.moved()?.is_some() || !is_empty(&store)? {
        // Whatever the file says: money is never overwritten.
        return Err(StoreError::Exists {
            path: path.to_owned(),
        }
        .into());
    }
    let here = store.card()?;
    if here != to {
        return Err(StoreError::OtherCard {
            path: file.to_owned(),
            to,
            here,
        }
        .into());
    }
    let sum = Hex(sum(file)?).to_string();
    let question = format!("SHA-256 of the file: {sum}\nThe code that was printed beside it: ");
    let code: MoveCode = line(&question)?.trim().parse().map_err(Failure::usage)?;
    let arrival = read_move(file, here, &code)?;
    if let Some(of) = chain_of(&arrival.wallet()).map_err(Failure::new)? {
        if of != files.chain().genesis() {
            let of = ChainName::of(of).map_or("another chain", ChainName::word);
            return Err(Failure::usage(format!(
                "{} belongs to {of}: name that chain under [chain] here first",
                file.display()
            )));
        }
    }
    // Whether somebody knows the words comes along with them.
    let note = files.data_dir().join(UNSEEN);
    if !arrival.shown() && note.symlink_metadata().is_err() {
        write_durably(
            &note,
            &[b"The words of the seed were not shown yet: `turnpike seed show`\n"],
        )?;
    }
    take_over(&arrival, seed, path)?;
    if arrival.shown() {
        remove(&note)?;
    }
    let backup = arrival.backup();
    let mut document = files.document(files.node()?);
    document["rows"] = backup.rows.into();
    document["entries"] = backup.entries.into();
    document["hash"] = Hex(backup.hash).to_string().into();
    document["sha256"] = sum.into();
    let mut text = files.text(files.node()?);
    text.push_str(&format!(
        "\n{} rows and {} payments have moved here. This node goes on where the old card stopped when turnpiked starts. \
         The file is used up: destroy it.\n",
        backup.rows, backup.entries
    ));
    output.line(&document, &text)
}

fn open(path: &Path) -> Result<Store, Failure> {
    Store::open_moved(path).map_err(|error| match error {
        StoreError::Locked { path } => Failure::new(format!(
            "{}: turnpiked is running with it: stop it first (on a card: `sv down /run/service/turnpiked`)",
            path.display()
        )),
        error => error.into(),
    })
}

/// One line of somebody who was asked.
fn line(question: &str) -> Result<Zeroizing<String>, Failure> {
    let failed = |error: std::io::Error| Failure::new(format!("standard input: {error}: log in again"));
    if stdin().is_terminal() {
        let mut asked = stderr();
        asked.write_all(question.as_bytes()).map_err(failed)?;
        asked.flush().map_err(failed)?;
    }
    let mut answer = Zeroizing::new(String::with_capacity(MAX_LINE as usize));
    stdin()
        .lock()
        .take(MAX_LINE)
        .read_line(&mut answer)
        .map_err(failed)?;
    Ok(answer)
}
