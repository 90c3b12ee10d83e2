//! ng_socket(4): the node of a control socket (netgraph/ng_socket.c).

use super::bare_requests;

bare_requests! {
    /// The node ends with its last hook.
    NoLinger NGM_SOCKET_COOKIE NGM_SOCK_CMD_NOLINGER "nolinger" Effect -> (),
    /// The node stays until the socket is closed (the default).
    Linger NGM_SOCKET_COOKIE NGM_SOCK_CMD_LINGER "linger" Effect -> (),
}
