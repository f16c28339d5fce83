//! How the node is: what its daemon says, and what its card says whether the daemon answers or not.

use super::output::fields;
use super::{Failure, Output, Place, daemon, seed, show};
use crate::card::{Places, Problem, Problems};
use crate::control::Request;
use serde_json::{Value, json};
use std::fmt::Write as _;

pub(super) fn run(place: &Place, output: &Output) -> Result<(), Failure> {
    let problems = Problems::of(&Places::find(None)).list();
    let unseen = seed::is_unseen(place);
    let more = rows(&problems, unseen);
    match daemon::ask(place, Request::Status) {
        Ok(response) => {
            let mut document = fields(&response);
            extend(&mut document, &problems, unseen);
            let text = show::response(&response);
            output.line(&document, &format!("{}\n{more}", text.trim_end()))
        }
        Err(failure) => {
            // What is wrong with the card may be why.
            if !more.is_empty() {
                let mut document = json!({});
                extend(&mut document, &problems, unseen);
                output.line(&document, &more)?;
            }
            Err(failure)
        }
    }
}

fn rows(problems: &[Problem], unseen: bool) -> String {
    let mut text = String::new();
    for problem in problems {
        let _ = writeln!(text, "{:<10}{}: {}", "problem", problem.code, problem.text);
    }
    if unseen {
        let _ = writeln!(
            text,
            "{:<10}nobody has written its words down yet: if this card dies, its money is gone; log in and run `turnpike seed show`",
            "seed"
        );
    }
    text
}

fn extend(document: &mut Value, problems: &[Problem], unseen: bool) {
    document["problems"] = json!(problems);
    document["seed_shown"] = json!(!unseen);
}
