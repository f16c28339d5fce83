//! The clients of a relay, and what was sold to them.

use super::{Desk, figures, refusal};
use crate::control::{Failed, Hex, Response, Standing};
use crate::daemon::sales;
use turnpike_protocol::base::NodeId;
use turnpike_protocol::node::Command;

impl Desk {
    pub(super) async fn client_list(&self) -> Result<Response, Failed> {
        let now = self.now();
        let (accounts, sessions) = self
            .core
            .look(move |n| (n.accounts(now), n.view().sessions))
            .await?;
        let addresses = self.addresses().await?;
        let address = |client: NodeId| {
            let (connection, _) = sessions.iter().rev().find(|(_, peer)| *peer == client)?;
            addresses.get(connection).map(ToString::to_string)
        };
        let clients = accounts
            .iter()
            .map(|a| figures::client(a, address(a.client)))
            .collect();
        Ok(Response::Clients { clients })
    }

    pub(super) async fn client_stand(
        &self,
        client: Hex<NodeId>,
        standing: Standing,
    ) -> Result<Response, Failed> {
        let stand = Command::Stand {
            client: client.0,
            standing: standing.into(),
        };
        self.core.command(stand).await?.map_err(refusal::command)?;
        Ok(Response::Standing { client, standing })
    }

    pub(super) async fn sales(&self, days: Option<u32>) -> Result<Response, Failed> {
        // What is not in the table yet belongs to the answer too.
        sales::update(&self.core).await?;
        let rows = self
            .core
            .store(move |s| sales::list(s, days))
            .await?
            .map_err(refusal::store)?;
        Ok(Response::Sales { rows })
    }
}
