//! What this node would lose if the others vanished now.

use super::{Desk, figures};
use crate::control::{Exposure, ExposureRow, Failed, Hex, Response};
use turnpike_protocol::base::Msat;
use turnpike_protocol::node::ExposureView;

impl Desk {
    pub(super) async fn exposure(&self) -> Result<Response, Failed> {
        let (views, (unconfirmed, bound)) = self.core.look(|n| (n.exposures(), n.unconfirmed())).await?;
        Ok(Response::Exposure(Exposure {
            total_msat: views.iter().fold(Msat::ZERO, |sum, v| sum.saturating_add(v.msat)),
            unconfirmed_msat: unconfirmed,
            unconfirmed_bound_msat: bound,
            rows: views.iter().map(row).collect(),
        }))
    }
}

fn row(view: &ExposureView) -> ExposureRow {
    ExposureRow {
        peer: Hex(view.peer),
        slot: view.slot.map(|s| s.0),
        role: figures::role(view.role),
        msat: view.msat,
        bytes: view.bytes,
        milliseconds: view.millis,
        locked_sat: view.locked,
    }
}
