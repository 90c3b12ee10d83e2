//! ng_hub(4): every frame to every other hook (netgraph/ng_hub.c).

use super::bare_requests;

bare_requests! {
    /// Lets the hub live without hooks; only a shutdown ends it then.
    SetPersistent NGM_HUB_COOKIE NGM_HUB_SET_PERSISTENT "setpersistent" Effect -> (),
}
