//! The owner's command line, `turnpike`.
//!
//! What it does: says the owner's wishes to the daemon over the control socket and shows the answers, to people or as
//! JSON; makes and restores a node's files where no daemon runs yet; verifies receipts offline.
//! What comes in: arguments, the configuration, answers. What goes out: text, or one JSON document, on standard
//! output; progress, questions and one line for an error on standard error; exit status 0 done, 1 failed, 2 wrong
//! usage or configuration.
//! What it never does: open the store of a running daemon, decide about money, print seed words unasked.
//! Spec page: `protocol/spec/control.md`.

mod amount;
mod arguments;
mod card;
mod channel;
mod clients;
mod daemon;
mod doctor;
mod event;
mod failure;
mod interrupt;
mod moving;
mod output;
mod place;
mod price;
mod purchase;
mod receipt;
mod seed;
mod setup;
mod show;
mod status;
#[cfg(test)]
mod tests;
mod update;

use crate::control::{Progress, Request, Standing};
use arguments::{
    Arguments, BackupOptions, Beginning, CardCommand, ClientsCommand, Command, PriceCommand, ReceiptsCommand,
    RefundCommand, SeedCommand, WalletCommand,
};
use clap::{CommandFactory, Parser};
use failure::Failure;
use output::Output;
use place::Place;
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the command line that `arguments` are, the program's name first, and gives the exit status.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = arguments.into_iter().collect();
    let arguments = match Arguments::try_parse_from(&words) {
        Ok(arguments) => arguments,
        Err(error) => return failure::usage(&error, &words),
    };
    match execute(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn execute(arguments: Arguments) -> Result<(), Failure> {
    let output = Output { json: arguments.json };
    let place = Place {
        config: arguments.config,
        data_dir: arguments.data_dir,
    };
    let ask = |request: Request| -> Result<(), Failure> {
        let response = daemon::ask(&place, request)?;
        output.response(&response)
    };
    match arguments.command {
        Command::Init(options) => setup::init(&place, &output, &options),
        Command::Restore { file } => setup::restore(&place, &output, &file),
        Command::Status => status::run(&place, &output),
        Command::Discover { seconds } => ask(Request::Discover { seconds }),
        Command::Connect { relay } => {
            let Some(address) = relay.address else {
                return Err(Failure::usage(
                    "to connect, an address is needed: say IDENTITY@HOST:PORT or HOST:PORT",
                ));
            };
            ask(Request::Connect {
                address,
                relay: relay.node,
            })
        }
        Command::Price(PriceCommand::Show) => ask(Request::PriceShow),
        Command::Price(PriceCommand::Reload) => ask(Request::PriceReload),
        Command::Price(PriceCommand::Set(change)) => price::set(&place, &output, &change),
        Command::Buy(options) => purchase::buy(&place, &output, &options),
        Command::Stop { relay } => ask(Request::StopBuying { relay }),
        Command::Channel(command) => channel::run(&place, &output, command),
        Command::Wallet(WalletCommand::Address) => ask(Request::WalletAddress),
        Command::Wallet(WalletCommand::Balance) => ask(Request::WalletBalance),
        Command::Wallet(WalletCommand::Send {
            address,
            amount_sat,
            rate,
        }) => ask(Request::WalletSend {
            address,
            amount_sat: turnpike_protocol::base::Sat::new(amount_sat),
            sat_per_kvb: rate,
        }),
        Command::Receipts { command } => match command.unwrap_or(ReceiptsCommand::List) {
            ReceiptsCommand::List => receipt::list(&place, &output),
            ReceiptsCommand::Verify { receipt } => receipt::verify(&place, &output, &receipt),
        },
        Command::Exposure => ask(Request::Exposure),
        Command::Clients { command } => {
            let stand = |client: Beginning, standing| {
                let client = clients::find(&place, &client)?;
                ask(Request::ClientStand { client, standing })
            };
            match command.unwrap_or(ClientsCommand::List) {
                ClientsCommand::List => ask(Request::ClientList),
                ClientsCommand::Sales { days } => ask(Request::Sales { days }),
                ClientsCommand::Block { client } => stand(client, Standing::Blocked),
                ClientsCommand::Unblock { client } => stand(client, Standing::Normal),
                ClientsCommand::Exempt { client } => stand(client, Standing::Exempt),
            }
        }
        Command::Refund(RefundCommand::Export) => ask(Request::RefundExport),
        Command::Backup(BackupOptions {
            move_to: Some(to),
            file: Some(file),
            ..
        }) => moving::leave(&place, &output, to, &file),
        Command::Backup(BackupOptions { file: None, .. }) => moving::undo(&place, &output),
        Command::Backup(BackupOptions { file: Some(file), .. }) => {
            // The daemon has a working folder of its own.
            let path = std::path::absolute(&file).map_err(|error| {
                Failure::usage(format!(
                    "{}: {error}: name the backup from the root",
                    file.display()
                ))
            })?;
            ask(Request::Backup { path })
        }
        Command::Update(options) => update::run(&output, options),
        Command::Doctor => doctor::run(&place, &output),
        Command::Events => {
            let mut told = event::Told::default();
            let response = daemon::ask_with(&place, Request::Events, |progress| match progress {
                // An empty text is no line.
                Progress::Event(event) => {
                    let text = told.line(&event).unwrap_or_default();
                    output.line(&event, &text)
                }
                Progress::Missed { .. } => output.line(&progress, &show::progress(&progress)),
                _ => Ok(()),
            })?;
            output.response(&response)
        }
        Command::Card(CardCommand::Settings(options)) => card::settings(&output, &options),
        Command::Card(CardCommand::Init) => seed::make(&place, &output),
        Command::Card(CardCommand::Setup { listen, seconds }) => card::setup(&output, listen, seconds),
        Command::Card(CardCommand::Id) => moving::id(&place, &output),
        Command::Seed(SeedCommand::Show) => seed::show(&place, &output),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "turnpike", &mut script);
            output.bytes(&script)
        }
    }
}
