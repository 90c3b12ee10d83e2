//! FreeBSD's numbers and layouts, as its headers give them.
//!
//! `bindings.rs` is made by `netgraph/bindings/generate` and compared with a fresh run in CI. The assertions below hold
//! what 13.2 and 15 were measured to have (both releases alike), so that a header of some other release cannot slip in.

#[allow(missing_docs, non_camel_case_types, non_snake_case, non_upper_case_globals, dead_code)]
#[rustfmt::skip]
mod bindings;

pub use bindings::*;

use std::mem::{offset_of, size_of};

const _: () = {
    assert!(size_of::<ng_mesg_ng_msghdr>() == 56 && WARREN_SIZEOF_NG_MESG == 56);
    assert!(offset_of!(ng_mesg_ng_msghdr, arglen) == 4 && offset_of!(ng_mesg_ng_msghdr, cmd) == 8);
    assert!(offset_of!(ng_mesg_ng_msghdr, flags) == 12 && offset_of!(ng_mesg_ng_msghdr, token) == 16);
    assert!(offset_of!(ng_mesg_ng_msghdr, typecookie) == 20 && offset_of!(ng_mesg_ng_msghdr, cmdstr) == 24);
    assert!(NG_VERSION == 8 && NGM_READONLY == 0x1000_0000 && NGM_HASREPLY == 0x2000_0000);
    assert!(NG_TYPESIZ == 32 && NG_HOOKSIZ == 32 && NG_NODESIZ == 32 && NG_PATHSIZ == 512);
    assert!(NG_CMDSTRSIZ == 32 && NG_TEXTRESPONSE == 1024 && IFNAMSIZ == 16);

    assert!(NGM_GENERIC_COOKIE == 1_137_070_366 && NGM_FLOW_COOKIE == 851_672_669);
    assert!(size_of::<ngm_mkpeer>() == 96 && size_of::<ngm_connect>() == 576);
    assert!(size_of::<ngm_name>() == 32 && size_of::<ngm_rmhook>() == 32);
    assert!(size_of::<nodeinfo>() == 72 && size_of::<linkinfo>() == 136 && size_of::<typeinfo>() == 36);
    assert!(WARREN_SIZEOF_HOOKLIST == 72 && WARREN_SIZEOF_NAMELIST == 4 && WARREN_SIZEOF_TYPELIST == 4);
    assert!(NGM_NODEINFO == 0x3000_0006 && NGM_LISTTYPES == 0x3000_000a && NGM_TEXT_CONFIG == 14);

    assert!(NGM_BRIDGE_COOKIE == 1_569_321_993 && NGM_BRIDGE_MOVE_HOST == 9);
    assert!(size_of::<ng_bridge_config>() == 16 && size_of::<ng_bridge_link_stats>() == 14 * 8);
    assert!(size_of::<ng_bridge_hostent>() == 42 && size_of::<ng_bridge_move_host>() == 38);
    assert!(WARREN_SIZEOF_BRIDGE_HOST_ARY == 4);

    assert!(NGM_EIFACE_COOKIE == 948_105_892 && NGM_EIFACE_SET == 3);
    assert!(NGM_ETHER_COOKIE == 917_786_906 && NGM_ETHER_DETACH == 11);
    assert!(NGM_HUB_COOKIE == 1_082_189_597 && NGM_HUB_SET_PERSISTENT == 1);
    assert!(NGM_SOCKET_COOKIE == 851_601_233 && NGM_SOCK_CMD_NOLINGER == 1 && NGM_SOCK_CMD_LINGER == 2);
    assert!(AF_NETGRAPH == 32 && NG_DATA == 1 && NG_CONTROL == 2 && SO_RERROR == 0x0002_0000);
    assert!(WARREN_SOCKADDR_NG_DATA == 2);

    assert!(
        NGM_BPF_COOKIE == 944_100_792 && size_of::<ng_bpf_hookstat>() == 48 && size_of::<bpf_insn>() == 8
    );
    assert!(WARREN_BPF_HOOKPROG_MATCH == 32 && WARREN_BPF_HOOKPROG_NOT_MATCH == 64);
    assert!(
        WARREN_BPF_HOOKPROG_LEN == 96 && WARREN_BPF_HOOKPROG_PROG == 100 && WARREN_SIZEOF_BPF_HOOKPROG == 100
    );

    assert!(NGM_VLAN_COOKIE == 1_068_486_472 && size_of::<ng_vlan_filter>() == 38);
    assert!(offset_of!(ng_vlan_filter, vid) == 34);
    assert!(NGM_PIPE_COOKIE == 200_708_191 && size_of::<ng_pipe_cfg>() == 120);
    assert!(offset_of!(ng_pipe_cfg, downstream) == 24 && size_of::<ng_pipe_hookcfg>() == 48);
    assert!(NGM_MACFILTER_COOKIE == 1_042_445_461 && size_of::<ngm_macfilter_direct>() == 38);

    assert!(EPFNOSUPPORT == 46 && EISCONN == 56 && ENOTCONN == 57 && ENOBUFS == 55 && EADDRINUSE == 48);
};
