//! The one task that owns the node: takes what is ready, lets the node decide, makes it durable, then does it.
//!
//! Inputs that are ready together are handled together, so that one commit makes all of their payments durable. Every
//! `Persist` of a round is committed before any other action of that round is done, which is never later than the
//! order that the node asked for. While the disk is waited for, the node takes the next inputs; what it wants of them
//! waits. If the commit fails, nothing is done and the daemon ends.

use super::gatekeeper::Gatekeeper;
use super::link::own_link;
use super::rows::Batch;
use super::writer::{Commit, Writer};
use crate::chain::Report;
use crate::config::Config;
use crate::store::{Store, StoreError, Table};
use crate::transport::{LinkEvent, Links};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant as Clock;
use tokio::sync::{broadcast, mpsc, oneshot};
use turnpike_protocol::base::{ConnectionId, Instant};
use turnpike_protocol::money::chain::ChainAction;
use turnpike_protocol::node::{Action, Command, CommandError, Event, GateReading, Input, Node};
use turnpike_protocol::wire::ErrorCode;

/// Inputs handled before one commit, at most: bounds the delay of the first of them.
const MAX_ROUND: usize = 512;
/// Row of the chain follower's state.
pub const FOLLOWER_KEY: &[u8] = b"follower";

/// What the core is asked by the rest of the daemon.
pub enum Ask {
    /// A command of the owner.
    Command(Command, oneshot::Sender<Result<(), CommandError>>),
    /// A look at the node.
    Look(Box<dyn FnOnce(&Node) + Send>),
    /// Where the peers of the live sessions are.
    Remotes(oneshot::Sender<BTreeMap<ConnectionId, SocketAddr>>),
    /// A question to the store.
    Store(Box<dyn FnOnce(&Store) + Send>),
    /// A binding was resolved on the link, or not.
    Resolved(super::gatekeeper::Resolved),
    /// The kernel says that a client's credit is spent, or that notes were lost.
    GateNote,
    /// Go down cleanly.
    Shutdown(oneshot::Sender<()>),
}

/// Asks the core. Cheap to clone.
#[derive(Clone)]
pub struct CoreHandle {
    asks: mpsc::UnboundedSender<Ask>,
    events: broadcast::Sender<Event>,
}

/// The daemon is going down.
#[derive(Debug, thiserror::Error)]
#[error("the daemon is shutting down")]
pub struct Down;

impl CoreHandle {
    /// Carries out a command.
    ///
    /// # Errors
    /// [`Down`]; the inner error means that nothing was changed.
    pub async fn command(&self, command: Command) -> Result<Result<(), CommandError>, Down> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Command(command, reply)).map_err(|_| Down)?;
        answer.await.map_err(|_| Down)
    }

    /// Reads something of the node.
    ///
    /// # Errors
    /// [`Down`].
    pub async fn look<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Node) -> T + Send + 'static,
    ) -> Result<T, Down> {
        let (reply, answer) = oneshot::channel();
        let look = Box::new(move |node: &Node| drop(reply.send(read(node))));
        self.asks.send(Ask::Look(look)).map_err(|_| Down)?;
        answer.await.map_err(|_| Down)
    }

    /// Reads something of the store.
    ///
    /// # Errors
    /// [`Down`].
    pub async fn store<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> Result<T, Down> {
        let (reply, answer) = oneshot::channel();
        let look = Box::new(move |store: &Store| drop(reply.send(read(store))));
        self.asks.send(Ask::Store(look)).map_err(|_| Down)?;
        answer.await.map_err(|_| Down)
    }

    /// Where the peers of the live sessions are, whoever called whom.
    ///
    /// # Errors
    /// [`Down`].
    pub async fn remotes(&self) -> Result<BTreeMap<ConnectionId, SocketAddr>, Down> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask::Remotes(reply)).map_err(|_| Down)?;
        answer.await.map_err(|_| Down)
    }

    /// The node's news from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    pub(super) fn ask(&self, ask: Ask) {
        // A core that is gone needs nothing any more.
        let _ = self.asks.send(ask);
    }
}

/// Why the core ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoreError {
    /// The disk failed: nothing that was not durable was done.
    #[error("the store cannot be written, so nothing more is sold or paid: {0}")]
    Store(#[from] StoreError),
}

/// The core's parts.
pub struct Core {
    node: Node,
    store: Arc<Store>,
    writer: Writer,
    gatekeeper: Gatekeeper,
    links: Links,
    config: Arc<Config>,
    chain: mpsc::UnboundedSender<ChainAction>,
    handle: CoreHandle,
    asks: mpsc::UnboundedReceiver<Ask>,
    started: Clock,
    remotes: BTreeMap<ConnectionId, SocketAddr>,
    /// The session over which nothing can be bought, since its interface was not found: looked at again at a purchase.
    astray: Option<(SocketAddr, SocketAddr)>,
    batch: Batch,
    /// What is done once the batch that is being written is durable.
    todo: Vec<Action>,
    /// The kernel had something to say about the gate.
    noted: bool,
    /// Frames handled since the node was last asked what it wants.
    handled: usize,
    /// Answers for the node that came up while its actions were being done.
    inbox: Vec<Inbox>,
    wallet_rows: u64,
}

/// Inputs that own what they carry.
enum Inbox {
    Attached(u16, Result<(), ErrorCode>),
    Readings(Vec<GateReading>),
    Detached(u16, Option<GateReading>),
    DetachFailed(u16),
    GateFailed,
    GateRestored,
    Drift(u16),
    Meter(
        Option<(
            turnpike_protocol::base::ByteCount,
            turnpike_protocol::base::ByteCount,
        )>,
    ),
}

impl Core {
    /// Joins the parts. `wallet_rows` is the number of the next free row of the wallet's journal.
    ///
    /// # Errors
    /// The system gives no thread for the store.
    pub fn new(
        node: Node,
        store: Store,
        gatekeeper: Gatekeeper,
        links: Links,
        chain: mpsc::UnboundedSender<ChainAction>,
        config: Arc<Config>,
        started: Clock,
        wallet_rows: u64,
    ) -> std::io::Result<(Core, CoreHandle)> {
        let (ask, asks) = mpsc::unbounded_channel();
        let handle = CoreHandle {
            asks: ask,
            events: broadcast::channel(1_024).0,
        };
        let store = Arc::new(store);
        let core = Core {
            node,
            writer: Writer::start(store.clone())?,
            store,
            gatekeeper,
            links,
            config,
            chain,
            handle: handle.clone(),
            asks,
            started,
            remotes: BTreeMap::new(),
            astray: None,
            batch: Batch::default(),
            todo: Vec::new(),
            noted: false,
            handled: 0,
            inbox: Vec::new(),
            wallet_rows,
        };
        Ok((core, handle))
    }

    fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Runs until it is told to go down, or the disk fails.
    ///
    /// # Errors
    /// [`CoreError`].
    pub async fn run(
        mut self,
        mut frames: mpsc::Receiver<LinkEvent>,
        mut reports: mpsc::Receiver<Report>,
    ) -> Result<(), CoreError> {
        self.survivors();
        if self.store.restored()? {
            // The node has marked its channels; from here on they speak for themselves.
            self.batch.clear_restored();
        }
        self.settle().await?;
        loop {
            let wake = self
                .node
                .next_timeout()
                .map(|at| self.started + std::time::Duration::from_micros(at.as_micros()));
            let sleep = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let writing = self.writer.is_busy();
            tokio::select! {
                written = self.writer.finished(), if writing => {
                    written?;
                    self.act_all();
                }
                Some(event) = frames.recv(), if self.handled < MAX_ROUND => self.link(event),
                Some(report) = reports.recv() => self.report(report),
                Some(ask) = self.asks.recv() => {
                    if let Some(done) = self.ask(ask) {
                        self.go_down().await?;
                        let _ = done.send(());
                        return Ok(());
                    }
                }
                // What the timer wants would have to wait for the disk anyway: `advance` looks at it after that.
                () = sleep, if !writing => self.input(Input::Tick),
            }
            // What is ready by now shares the commit.
            while self.handled < MAX_ROUND {
                match frames.try_recv() {
                    Ok(event) => self.link(event),
                    Err(_) => break,
                }
            }
            self.advance().await?;
        }
    }

    fn input(&mut self, input: Input<'_>) {
        let now = self.now();
        // Only commands fail, and those go another way.
        let _ = self.node.handle(now, input);
    }

    fn link(&mut self, event: LinkEvent) {
        self.handled += 1;
        match event {
            LinkEvent::Up {
                connection,
                peer,
                remote,
                local,
                outgoing,
            } => {
                self.remotes.insert(connection, remote);
                if outgoing {
                    self.towards(local, remote);
                }
                self.input(Input::Connected { connection, peer });
            }
            LinkEvent::Frame { connection, frame } => self.input(Input::Frame {
                connection,
                frame: &frame,
            }),
            LinkEvent::Down { connection, reason } => {
                tracing::debug!(connection = connection.0, %reason, "session ended");
                self.remotes.remove(&connection);
                self.input(Input::Disconnected { connection });
            }
        }
    }

    /// We called a relay: what this device is on that link, for the meter and for the binding.
    fn towards(&mut self, local: SocketAddr, remote: SocketAddr) {
        self.astray = None;
        match own_link(local, remote, self.config.client.interface.as_ref()) {
            Ok(link) => {
                self.gatekeeper.client(link.meter);
                self.node.set_addresses(link.addresses);
            }
            Err(error) => {
                tracing::warn!(%error, "nothing can be bought over this session");
                self.astray = Some((local, remote));
            }
        }
    }

    fn report(&mut self, report: Report) {
        for event in report.events {
            self.input(Input::Chain(event));
        }
        if let Some(state) = report.state {
            self.batch.put(Table::Chain, FOLLOWER_KEY, state);
        }
        if let Some(entry) = report.wallet {
            self.batch
                .put(Table::Wallet, &self.wallet_rows.to_be_bytes(), entry);
            self.wallet_rows += 1;
        }
    }

    fn ask(&mut self, ask: Ask) -> Option<oneshot::Sender<()>> {
        match ask {
            Ask::Command(command, reply) => {
                if let (Command::Buy { .. }, Some((local, remote))) = (&command, self.astray) {
                    // An interface that was just coming up may have the address by now.
                    self.towards(local, remote);
                }
                let now = self.now();
                let _ = reply.send(self.node.handle(now, Input::Command(command)));
            }
            Ask::Look(read) => read(&self.node),
            Ask::Remotes(reply) => drop(reply.send(self.remotes.clone())),
            Ask::Store(read) => read(&self.store),
            Ask::Resolved(resolved) => {
                let client = resolved.client;
                let result = self.gatekeeper.attach(resolved);
                self.inbox.push(Inbox::Attached(client, result));
            }
            Ask::GateNote => self.noted = true,
            Ask::Shutdown(done) => return Some(done),
        }
        None
    }

    /// Does what the node wants, until it wants nothing more or something has to be durable first. While that is being
    /// written the node takes further inputs, unless one of the actions that wait has an answer: then it has to know that
    /// answer before anything that comes later.
    async fn advance(&mut self) -> Result<(), CoreError> {
        let mut ticked = false;
        loop {
            if self.writer.is_busy() {
                if !self.todo.iter().any(is_answered) {
                    return Ok(());
                }
                self.written().await?;
            }
            for answer in std::mem::take(&mut self.inbox) {
                self.answer(answer);
            }
            // Before the next commit, not after it: where one follows the other there is no time between them.
            if !ticked && self.is_overdue() {
                ticked = true;
                self.input(Input::Tick);
            }
            while let Some(action) = self.node.poll_action() {
                match action {
                    Action::Persist(write) => self.batch.push(write),
                    other => self.todo.push(other),
                }
            }
            // Behind everything that the node wants of the gate, so that it is not taken for an answer to that.
            if std::mem::take(&mut self.noted) {
                self.todo.push(Action::ReadGate);
            }
            self.handled = 0;
            if self.store.should_fold() {
                self.begin(Commit::Fold);
            } else if !self.batch.is_empty() {
                self.begin(Commit::Append);
            } else if self.todo.is_empty() && self.inbox.is_empty() {
                return Ok(());
            } else {
                self.act_all();
            }
        }
    }

    /// A timer of the node has come.
    fn is_overdue(&self) -> bool {
        self.node.next_timeout().is_some_and(|at| at <= self.now())
    }

    fn begin(&mut self, commit: Commit) {
        if commit == Commit::Fold {
            for write in self.node.fold() {
                self.batch.push(write);
            }
        }
        self.writer.begin(std::mem::take(&mut self.batch), commit);
    }

    /// Waits for the disk, then does what had to wait for it.
    async fn written(&mut self) -> Result<(), CoreError> {
        self.writer.finished().await?;
        self.act_all();
        Ok(())
    }

    fn act_all(&mut self) {
        for action in std::mem::take(&mut self.todo) {
            self.act(action);
        }
    }

    /// As [`Core::advance`], to the very end.
    async fn settle(&mut self) -> Result<(), CoreError> {
        self.advance().await?;
        while self.writer.is_busy() {
            self.written().await?;
            self.advance().await?;
        }
        Ok(())
    }

    fn answer(&mut self, answer: Inbox) {
        match answer {
            Inbox::Attached(client, result) => self.input(Input::Attached { client, result }),
            Inbox::Readings(readings) => self.input(Input::GateReadings { readings: &readings }),
            Inbox::Detached(client, last) => self.input(Input::Detached { client, last }),
            Inbox::DetachFailed(client) => self.input(Input::DetachFailed { client }),
            Inbox::GateFailed => self.input(Input::GateFailed),
            Inbox::GateRestored => self.input(Input::GateRestored),
            Inbox::Drift(client) => self.input(Input::Drift { client }),
            Inbox::Meter(Some((up, down))) => self.input(Input::MeterReading { up, down }),
            Inbox::Meter(None) => self.input(Input::MeterFailed),
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            // Committed already: no other kind of action is mixed in before it.
            Action::Persist(write) => self.batch.push(write),
            Action::Send { connection, frame } => self.links.send(connection, frame),
            Action::Disconnect { connection, code } => {
                tracing::info!(
                    connection = connection.0,
                    reason = code.text(),
                    "ending a session"
                );
                self.links.disconnect(connection);
            }
            Action::Chain(action) => {
                // The chain task ends only with the daemon.
                let _ = self.chain.send(action);
            }
            Action::Attach {
                client,
                connection,
                addresses,
            } => {
                let remote = self.remotes.get(&connection).copied();
                if let Err(code) = self
                    .gatekeeper
                    .resolve(client, remote, &addresses, self.handle.clone())
                {
                    self.inbox.push(Inbox::Attached(client, Err(code)));
                }
            }
            Action::Grant { client, limit } => {
                if let Err(error) = self.gatekeeper.grant(client, limit) {
                    tracing::error!(%error, client, "the gate could not be set");
                    self.inbox.push(Inbox::GateFailed);
                }
            }
            Action::ReadGate => self.read_gate(),
            Action::CheckBinding { client } => {
                if self.gatekeeper.has_drifted(client) {
                    tracing::info!(client, "the addresses of a binding are another device's now");
                    self.inbox.push(Inbox::Drift(client));
                }
            }
            Action::Detach { client } => {
                self.detach(client);
            }
            Action::ReadMeter => self.inbox.push(Inbox::Meter(self.gatekeeper.read_meter())),
            Action::Notify(event) => {
                tracing::debug!(?event, "news");
                // Nobody listening is fine.
                let _ = self.handle.events.send(event);
            }
        }
    }

    fn read_gate(&mut self) {
        match self.gatekeeper.read() {
            Ok(readings) => {
                if self.gatekeeper.recovered() {
                    self.inbox.push(Inbox::GateRestored);
                }
                self.inbox.push(Inbox::Readings(readings));
            }
            Err(error) => {
                tracing::error!(%error, "the gate could not be read");
                self.inbox.push(Inbox::GateFailed);
            }
        }
    }

    /// What a crash left in the kernel is billed before anything else, then closed: bindings do not survive.
    fn survivors(&mut self) {
        let known = self.node.attachments();
        for client in &known {
            self.detach(*client);
        }
        self.gatekeeper.drop_strangers(&known);
    }

    /// Closes an attachment of the gate; gives whether that went well.
    fn detach(&mut self, client: u16) -> bool {
        match self.gatekeeper.detach(client) {
            Ok(last) => {
                self.inbox.push(Inbox::Detached(client, last));
                true
            }
            Err(error) => {
                tracing::error!(%error, client, "the gate could not close an attachment, it is tried again");
                self.inbox.push(Inbox::DetachFailed(client));
                false
            }
        }
    }

    /// Counts and closes every attachment, so that no use is forgotten, and removes the gate.
    async fn go_down(&mut self) -> Result<(), CoreError> {
        // What was being written when the word came.
        self.written().await?;
        let mut counted = true;
        for client in self.node.attachments() {
            counted &= self.detach(client);
        }
        self.settle().await?;
        self.begin(Commit::Fold);
        self.writer.finished().await?;
        if !counted {
            tracing::error!("the gate stays in force, so that the next start can count what was used");
            self.gatekeeper.leave();
        }
        self.gatekeeper.close();
        Ok(())
    }
}

/// Whether the node waits for an answer that is there as soon as the action is done.
fn is_answered(action: &Action) -> bool {
    matches!(
        action,
        Action::ReadGate | Action::CheckBinding { .. } | Action::Detach { .. } | Action::ReadMeter
    )
}
