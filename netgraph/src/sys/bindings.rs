// Made by netgraph/bindings/generate from FreeBSD's headers (ziglang 0.15.2, bindgen 0.72.1). Do not edit.
pub const EPERM: u32 = 1;
pub const ENOENT: u32 = 2;
pub const ESRCH: u32 = 3;
pub const EINTR: u32 = 4;
pub const EIO: u32 = 5;
pub const ENXIO: u32 = 6;
pub const E2BIG: u32 = 7;
pub const ENOEXEC: u32 = 8;
pub const EBADF: u32 = 9;
pub const ECHILD: u32 = 10;
pub const EDEADLK: u32 = 11;
pub const ENOMEM: u32 = 12;
pub const EACCES: u32 = 13;
pub const EFAULT: u32 = 14;
pub const ENOTBLK: u32 = 15;
pub const EBUSY: u32 = 16;
pub const EEXIST: u32 = 17;
pub const EXDEV: u32 = 18;
pub const ENODEV: u32 = 19;
pub const ENOTDIR: u32 = 20;
pub const EISDIR: u32 = 21;
pub const EINVAL: u32 = 22;
pub const ENFILE: u32 = 23;
pub const EMFILE: u32 = 24;
pub const ENOTTY: u32 = 25;
pub const ETXTBSY: u32 = 26;
pub const EFBIG: u32 = 27;
pub const ENOSPC: u32 = 28;
pub const ESPIPE: u32 = 29;
pub const EROFS: u32 = 30;
pub const EMLINK: u32 = 31;
pub const EPIPE: u32 = 32;
pub const EDOM: u32 = 33;
pub const ERANGE: u32 = 34;
pub const EAGAIN: u32 = 35;
pub const EWOULDBLOCK: u32 = 35;
pub const EINPROGRESS: u32 = 36;
pub const EALREADY: u32 = 37;
pub const ENOTSOCK: u32 = 38;
pub const EDESTADDRREQ: u32 = 39;
pub const EMSGSIZE: u32 = 40;
pub const EPROTOTYPE: u32 = 41;
pub const ENOPROTOOPT: u32 = 42;
pub const EPROTONOSUPPORT: u32 = 43;
pub const ESOCKTNOSUPPORT: u32 = 44;
pub const EOPNOTSUPP: u32 = 45;
pub const ENOTSUP: u32 = 45;
pub const EPFNOSUPPORT: u32 = 46;
pub const EAFNOSUPPORT: u32 = 47;
pub const EADDRINUSE: u32 = 48;
pub const EADDRNOTAVAIL: u32 = 49;
pub const ENETDOWN: u32 = 50;
pub const ENETUNREACH: u32 = 51;
pub const ENETRESET: u32 = 52;
pub const ECONNABORTED: u32 = 53;
pub const ECONNRESET: u32 = 54;
pub const ENOBUFS: u32 = 55;
pub const EISCONN: u32 = 56;
pub const ENOTCONN: u32 = 57;
pub const ESHUTDOWN: u32 = 58;
pub const ETOOMANYREFS: u32 = 59;
pub const ETIMEDOUT: u32 = 60;
pub const ECONNREFUSED: u32 = 61;
pub const ELOOP: u32 = 62;
pub const ENAMETOOLONG: u32 = 63;
pub const EHOSTDOWN: u32 = 64;
pub const EHOSTUNREACH: u32 = 65;
pub const ENOTEMPTY: u32 = 66;
pub const EPROCLIM: u32 = 67;
pub const EUSERS: u32 = 68;
pub const EDQUOT: u32 = 69;
pub const ESTALE: u32 = 70;
pub const EREMOTE: u32 = 71;
pub const EBADRPC: u32 = 72;
pub const ERPCMISMATCH: u32 = 73;
pub const EPROGUNAVAIL: u32 = 74;
pub const EPROGMISMATCH: u32 = 75;
pub const EPROCUNAVAIL: u32 = 76;
pub const ENOLCK: u32 = 77;
pub const ENOSYS: u32 = 78;
pub const EFTYPE: u32 = 79;
pub const EAUTH: u32 = 80;
pub const ENEEDAUTH: u32 = 81;
pub const EIDRM: u32 = 82;
pub const ENOMSG: u32 = 83;
pub const EOVERFLOW: u32 = 84;
pub const ECANCELED: u32 = 85;
pub const EILSEQ: u32 = 86;
pub const ENOATTR: u32 = 87;
pub const EDOOFUS: u32 = 88;
pub const EBADMSG: u32 = 89;
pub const EMULTIHOP: u32 = 90;
pub const ENOLINK: u32 = 91;
pub const EPROTO: u32 = 92;
pub const ENOTCAPABLE: u32 = 93;
pub const ECAPMODE: u32 = 94;
pub const ENOTRECOVERABLE: u32 = 95;
pub const EOWNERDEAD: u32 = 96;
pub const EINTEGRITY: u32 = 97;
pub const ELAST: u32 = 97;
pub const SO_RERROR: u32 = 131072;
pub const SO_SNDBUF: u32 = 4097;
pub const SO_RCVBUF: u32 = 4098;
pub const SOL_SOCKET: u32 = 65535;
pub const AF_NETGRAPH: u32 = 32;
pub const ETHER_ADDR_LEN: u32 = 6;
pub const ETHERMTU: u32 = 1500;
pub const ETHERMIN: u32 = 46;
pub const IFNAMSIZ: u32 = 16;
pub const BPF_MAXINSNS: u32 = 512;
pub const BPF_MEMWORDS: u32 = 16;
pub const NG_TYPESIZ: u32 = 32;
pub const NG_HOOKSIZ: u32 = 32;
pub const NG_NODESIZ: u32 = 32;
pub const NG_PATHSIZ: u32 = 512;
pub const NG_CMDSTRSIZ: u32 = 32;
pub const NG_TEXTRESPONSE: u32 = 1024;
pub const NGM_READONLY: u32 = 268435456;
pub const NGM_HASREPLY: u32 = 536870912;
pub const NG_VERSION: u32 = 8;
pub const NGF_ORIG: u32 = 0;
pub const NGF_RESP: u32 = 1;
pub const NGM_GENERIC_COOKIE: u32 = 1137070366;
pub const NGM_FLOW_COOKIE: u32 = 851672669;
pub const NGM_LINK_IS_UP: u32 = 32;
pub const NGM_LINK_IS_DOWN: u32 = 33;
pub const NGM_SOCKET_COOKIE: u32 = 851601233;
pub const NG_DATA: u32 = 1;
pub const NG_CONTROL: u32 = 2;
pub const NGM_BRIDGE_COOKIE: u32 = 1569321993;
pub const NGM_BPF_COOKIE: u32 = 944100792;
pub const NGM_EIFACE_COOKIE: u32 = 948105892;
pub const NGM_ETHER_COOKIE: u32 = 917786906;
pub const NGM_HUB_COOKIE: u32 = 1082189597;
pub const NGM_VLAN_COOKIE: u32 = 1068486472;
pub const NGM_PIPE_COOKIE: u32 = 200708191;
pub const NGM_MACFILTER_COOKIE: u32 = 1042445461;
pub type __uint16_t = ::core::ffi::c_ushort;
pub type __uint32_t = ::core::ffi::c_uint;
pub type __uint64_t = ::core::ffi::c_ulong;
pub type u_char = ::core::ffi::c_uchar;
pub type u_short = ::core::ffi::c_ushort;
pub type u_int16_t = __uint16_t;
pub type u_int32_t = __uint32_t;
pub type u_int64_t = __uint64_t;
pub type bpf_u_int32 = u_int32_t;
#[repr(C)]
#[derive(Copy, Clone)]
pub struct bpf_insn {
    pub code: u_short,
    pub jt: u_char,
    pub jf: u_char,
    pub k: bpf_u_int32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of bpf_insn"][::core::mem::size_of::<bpf_insn>() - 8usize];
    ["Alignment of bpf_insn"][::core::mem::align_of::<bpf_insn>() - 4usize];
    [
        "Offset of field: bpf_insn::code",
    ][::core::mem::offset_of!(bpf_insn, code) - 0usize];
    ["Offset of field: bpf_insn::jt"][::core::mem::offset_of!(bpf_insn, jt) - 2usize];
    ["Offset of field: bpf_insn::jf"][::core::mem::offset_of!(bpf_insn, jf) - 3usize];
    ["Offset of field: bpf_insn::k"][::core::mem::offset_of!(bpf_insn, k) - 4usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ng_mesg_ng_msghdr {
    pub version: u_char,
    pub spare: u_char,
    pub spare2: u_int16_t,
    pub arglen: u_int32_t,
    pub cmd: u_int32_t,
    pub flags: u_int32_t,
    pub token: u_int32_t,
    pub typecookie: u_int32_t,
    pub cmdstr: [u_char; 32usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ng_mesg_ng_msghdr"][::core::mem::size_of::<ng_mesg_ng_msghdr>() - 56usize];
    [
        "Alignment of ng_mesg_ng_msghdr",
    ][::core::mem::align_of::<ng_mesg_ng_msghdr>() - 4usize];
    [
        "Offset of field: ng_mesg_ng_msghdr::version",
    ][::core::mem::offset_of!(ng_mesg_ng_msghdr, version) - 0usize];
    [
        "Offset of field: ng_mesg_ng_msghdr::spare",
    ][::core::mem::offset_of!(ng_mesg_ng_msghdr, spare) - 1usize];
    [
        "Offset of field: ng_mesg_ng_msghdr::spare2",
    ][::core::mem::offset_of!(ng_mesg_ng_msghdr, spare2) - 2usize];
    [
        "Offset of field: ng_mesg_ng_msghdr::arglen",
    ][::core::mem::offset_of!(ng_mesg_ng_msghdr, arglen) - 4usize];
    [
        "Offset of field: ng_mesg_ng_msghdr::cmd",
    ][::core::mem::offset_of!(ng_mesg_ng_msghdr, cmd) - 8usize];
    [
        "Offset of field: ng_mesg_ng_msghdr::flags",
    ][::core::mem::offset_of!(ng_mesg_ng_msghdr, flags) - 12usize];
    [
        "Offset of field: ng_mesg_ng_msghdr::token",
    ][::core::mem::offset_of!(ng_mesg_ng_msghdr, token) - 16usize];
    [
        "Offset of field: ng_mesg_ng_msghdr::typecookie",
    ][::core::mem::offset_of!(ng_mesg_ng_msghdr, typecookie) - 20usize];
    [
        "Offset of field: ng_mesg_ng_msghdr::cmdstr",
    ][::core::mem::offset_of!(ng_mesg_ng_msghdr, cmdstr) - 24usize];
};
pub const NGM_SHUTDOWN: _bindgen_ty_1 = 1;
pub const NGM_MKPEER: _bindgen_ty_1 = 2;
pub const NGM_CONNECT: _bindgen_ty_1 = 3;
pub const NGM_NAME: _bindgen_ty_1 = 4;
pub const NGM_RMHOOK: _bindgen_ty_1 = 5;
pub const NGM_NODEINFO: _bindgen_ty_1 = 805306374;
pub const NGM_LISTHOOKS: _bindgen_ty_1 = 805306375;
pub const NGM_LISTNAMES: _bindgen_ty_1 = 805306376;
pub const NGM_LISTNODES: _bindgen_ty_1 = 805306377;
pub const NGM_LISTTYPES: _bindgen_ty_1 = 805306378;
pub const NGM_TEXT_STATUS: _bindgen_ty_1 = 805306379;
pub const NGM_BINARY2ASCII: _bindgen_ty_1 = 805306380;
pub const NGM_ASCII2BINARY: _bindgen_ty_1 = 805306381;
pub const NGM_TEXT_CONFIG: _bindgen_ty_1 = 14;
pub type _bindgen_ty_1 = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ngm_mkpeer {
    pub type_: [::core::ffi::c_char; 32usize],
    pub ourhook: [::core::ffi::c_char; 32usize],
    pub peerhook: [::core::ffi::c_char; 32usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ngm_mkpeer"][::core::mem::size_of::<ngm_mkpeer>() - 96usize];
    ["Alignment of ngm_mkpeer"][::core::mem::align_of::<ngm_mkpeer>() - 1usize];
    [
        "Offset of field: ngm_mkpeer::type_",
    ][::core::mem::offset_of!(ngm_mkpeer, type_) - 0usize];
    [
        "Offset of field: ngm_mkpeer::ourhook",
    ][::core::mem::offset_of!(ngm_mkpeer, ourhook) - 32usize];
    [
        "Offset of field: ngm_mkpeer::peerhook",
    ][::core::mem::offset_of!(ngm_mkpeer, peerhook) - 64usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ngm_connect {
    pub path: [::core::ffi::c_char; 512usize],
    pub ourhook: [::core::ffi::c_char; 32usize],
    pub peerhook: [::core::ffi::c_char; 32usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ngm_connect"][::core::mem::size_of::<ngm_connect>() - 576usize];
    ["Alignment of ngm_connect"][::core::mem::align_of::<ngm_connect>() - 1usize];
    [
        "Offset of field: ngm_connect::path",
    ][::core::mem::offset_of!(ngm_connect, path) - 0usize];
    [
        "Offset of field: ngm_connect::ourhook",
    ][::core::mem::offset_of!(ngm_connect, ourhook) - 512usize];
    [
        "Offset of field: ngm_connect::peerhook",
    ][::core::mem::offset_of!(ngm_connect, peerhook) - 544usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ngm_name {
    pub name: [::core::ffi::c_char; 32usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ngm_name"][::core::mem::size_of::<ngm_name>() - 32usize];
    ["Alignment of ngm_name"][::core::mem::align_of::<ngm_name>() - 1usize];
    [
        "Offset of field: ngm_name::name",
    ][::core::mem::offset_of!(ngm_name, name) - 0usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ngm_rmhook {
    pub ourhook: [::core::ffi::c_char; 32usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ngm_rmhook"][::core::mem::size_of::<ngm_rmhook>() - 32usize];
    ["Alignment of ngm_rmhook"][::core::mem::align_of::<ngm_rmhook>() - 1usize];
    [
        "Offset of field: ngm_rmhook::ourhook",
    ][::core::mem::offset_of!(ngm_rmhook, ourhook) - 0usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct nodeinfo {
    pub name: [::core::ffi::c_char; 32usize],
    pub type_: [::core::ffi::c_char; 32usize],
    pub id: u32,
    pub hooks: u_int32_t,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of nodeinfo"][::core::mem::size_of::<nodeinfo>() - 72usize];
    ["Alignment of nodeinfo"][::core::mem::align_of::<nodeinfo>() - 4usize];
    [
        "Offset of field: nodeinfo::name",
    ][::core::mem::offset_of!(nodeinfo, name) - 0usize];
    [
        "Offset of field: nodeinfo::type_",
    ][::core::mem::offset_of!(nodeinfo, type_) - 32usize];
    ["Offset of field: nodeinfo::id"][::core::mem::offset_of!(nodeinfo, id) - 64usize];
    [
        "Offset of field: nodeinfo::hooks",
    ][::core::mem::offset_of!(nodeinfo, hooks) - 68usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct linkinfo {
    pub ourhook: [::core::ffi::c_char; 32usize],
    pub peerhook: [::core::ffi::c_char; 32usize],
    pub nodeinfo: nodeinfo,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of linkinfo"][::core::mem::size_of::<linkinfo>() - 136usize];
    ["Alignment of linkinfo"][::core::mem::align_of::<linkinfo>() - 4usize];
    [
        "Offset of field: linkinfo::ourhook",
    ][::core::mem::offset_of!(linkinfo, ourhook) - 0usize];
    [
        "Offset of field: linkinfo::peerhook",
    ][::core::mem::offset_of!(linkinfo, peerhook) - 32usize];
    [
        "Offset of field: linkinfo::nodeinfo",
    ][::core::mem::offset_of!(linkinfo, nodeinfo) - 64usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct typeinfo {
    pub type_name: [::core::ffi::c_char; 32usize],
    pub numnodes: u_int32_t,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of typeinfo"][::core::mem::size_of::<typeinfo>() - 36usize];
    ["Alignment of typeinfo"][::core::mem::align_of::<typeinfo>() - 4usize];
    [
        "Offset of field: typeinfo::type_name",
    ][::core::mem::offset_of!(typeinfo, type_name) - 0usize];
    [
        "Offset of field: typeinfo::numnodes",
    ][::core::mem::offset_of!(typeinfo, numnodes) - 32usize];
};
pub const NGM_SOCK_CMD_NOLINGER: _bindgen_ty_2 = 1;
pub const NGM_SOCK_CMD_LINGER: _bindgen_ty_2 = 2;
pub type _bindgen_ty_2 = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ng_bridge_config {
    pub debugLevel: u_char,
    pub loopTimeout: u_int32_t,
    pub maxStaleness: u_int32_t,
    pub minStableAge: u_int32_t,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ng_bridge_config"][::core::mem::size_of::<ng_bridge_config>() - 16usize];
    [
        "Alignment of ng_bridge_config",
    ][::core::mem::align_of::<ng_bridge_config>() - 4usize];
    [
        "Offset of field: ng_bridge_config::debugLevel",
    ][::core::mem::offset_of!(ng_bridge_config, debugLevel) - 0usize];
    [
        "Offset of field: ng_bridge_config::loopTimeout",
    ][::core::mem::offset_of!(ng_bridge_config, loopTimeout) - 4usize];
    [
        "Offset of field: ng_bridge_config::maxStaleness",
    ][::core::mem::offset_of!(ng_bridge_config, maxStaleness) - 8usize];
    [
        "Offset of field: ng_bridge_config::minStableAge",
    ][::core::mem::offset_of!(ng_bridge_config, minStableAge) - 12usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ng_bridge_link_stats {
    pub recvOctets: u_int64_t,
    pub recvPackets: u_int64_t,
    pub recvMulticasts: u_int64_t,
    pub recvBroadcasts: u_int64_t,
    pub recvUnknown: u_int64_t,
    pub recvRunts: u_int64_t,
    pub recvInvalid: u_int64_t,
    pub xmitOctets: u_int64_t,
    pub xmitPackets: u_int64_t,
    pub xmitMulticasts: u_int64_t,
    pub xmitBroadcasts: u_int64_t,
    pub loopDrops: u_int64_t,
    pub loopDetects: u_int64_t,
    pub memoryFailures: u_int64_t,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of ng_bridge_link_stats",
    ][::core::mem::size_of::<ng_bridge_link_stats>() - 112usize];
    [
        "Alignment of ng_bridge_link_stats",
    ][::core::mem::align_of::<ng_bridge_link_stats>() - 8usize];
    [
        "Offset of field: ng_bridge_link_stats::recvOctets",
    ][::core::mem::offset_of!(ng_bridge_link_stats, recvOctets) - 0usize];
    [
        "Offset of field: ng_bridge_link_stats::recvPackets",
    ][::core::mem::offset_of!(ng_bridge_link_stats, recvPackets) - 8usize];
    [
        "Offset of field: ng_bridge_link_stats::recvMulticasts",
    ][::core::mem::offset_of!(ng_bridge_link_stats, recvMulticasts) - 16usize];
    [
        "Offset of field: ng_bridge_link_stats::recvBroadcasts",
    ][::core::mem::offset_of!(ng_bridge_link_stats, recvBroadcasts) - 24usize];
    [
        "Offset of field: ng_bridge_link_stats::recvUnknown",
    ][::core::mem::offset_of!(ng_bridge_link_stats, recvUnknown) - 32usize];
    [
        "Offset of field: ng_bridge_link_stats::recvRunts",
    ][::core::mem::offset_of!(ng_bridge_link_stats, recvRunts) - 40usize];
    [
        "Offset of field: ng_bridge_link_stats::recvInvalid",
    ][::core::mem::offset_of!(ng_bridge_link_stats, recvInvalid) - 48usize];
    [
        "Offset of field: ng_bridge_link_stats::xmitOctets",
    ][::core::mem::offset_of!(ng_bridge_link_stats, xmitOctets) - 56usize];
    [
        "Offset of field: ng_bridge_link_stats::xmitPackets",
    ][::core::mem::offset_of!(ng_bridge_link_stats, xmitPackets) - 64usize];
    [
        "Offset of field: ng_bridge_link_stats::xmitMulticasts",
    ][::core::mem::offset_of!(ng_bridge_link_stats, xmitMulticasts) - 72usize];
    [
        "Offset of field: ng_bridge_link_stats::xmitBroadcasts",
    ][::core::mem::offset_of!(ng_bridge_link_stats, xmitBroadcasts) - 80usize];
    [
        "Offset of field: ng_bridge_link_stats::loopDrops",
    ][::core::mem::offset_of!(ng_bridge_link_stats, loopDrops) - 88usize];
    [
        "Offset of field: ng_bridge_link_stats::loopDetects",
    ][::core::mem::offset_of!(ng_bridge_link_stats, loopDetects) - 96usize];
    [
        "Offset of field: ng_bridge_link_stats::memoryFailures",
    ][::core::mem::offset_of!(ng_bridge_link_stats, memoryFailures) - 104usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ng_bridge_hostent {
    pub addr: [u_char; 6usize],
    pub hook: [::core::ffi::c_char; 32usize],
    pub age: u_int16_t,
    pub staleness: u_int16_t,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ng_bridge_hostent"][::core::mem::size_of::<ng_bridge_hostent>() - 42usize];
    [
        "Alignment of ng_bridge_hostent",
    ][::core::mem::align_of::<ng_bridge_hostent>() - 2usize];
    [
        "Offset of field: ng_bridge_hostent::addr",
    ][::core::mem::offset_of!(ng_bridge_hostent, addr) - 0usize];
    [
        "Offset of field: ng_bridge_hostent::hook",
    ][::core::mem::offset_of!(ng_bridge_hostent, hook) - 6usize];
    [
        "Offset of field: ng_bridge_hostent::age",
    ][::core::mem::offset_of!(ng_bridge_hostent, age) - 38usize];
    [
        "Offset of field: ng_bridge_hostent::staleness",
    ][::core::mem::offset_of!(ng_bridge_hostent, staleness) - 40usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ng_bridge_move_host {
    pub addr: [u_char; 6usize],
    pub hook: [::core::ffi::c_char; 32usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of ng_bridge_move_host",
    ][::core::mem::size_of::<ng_bridge_move_host>() - 38usize];
    [
        "Alignment of ng_bridge_move_host",
    ][::core::mem::align_of::<ng_bridge_move_host>() - 1usize];
    [
        "Offset of field: ng_bridge_move_host::addr",
    ][::core::mem::offset_of!(ng_bridge_move_host, addr) - 0usize];
    [
        "Offset of field: ng_bridge_move_host::hook",
    ][::core::mem::offset_of!(ng_bridge_move_host, hook) - 6usize];
};
pub const NGM_BRIDGE_SET_CONFIG: _bindgen_ty_3 = 1;
pub const NGM_BRIDGE_GET_CONFIG: _bindgen_ty_3 = 2;
pub const NGM_BRIDGE_RESET: _bindgen_ty_3 = 3;
pub const NGM_BRIDGE_GET_STATS: _bindgen_ty_3 = 4;
pub const NGM_BRIDGE_CLR_STATS: _bindgen_ty_3 = 5;
pub const NGM_BRIDGE_GETCLR_STATS: _bindgen_ty_3 = 6;
pub const NGM_BRIDGE_GET_TABLE: _bindgen_ty_3 = 7;
pub const NGM_BRIDGE_SET_PERSISTENT: _bindgen_ty_3 = 8;
pub const NGM_BRIDGE_MOVE_HOST: _bindgen_ty_3 = 9;
pub type _bindgen_ty_3 = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ng_bpf_hookstat {
    pub recvFrames: u_int64_t,
    pub recvOctets: u_int64_t,
    pub recvMatchFrames: u_int64_t,
    pub recvMatchOctets: u_int64_t,
    pub xmitFrames: u_int64_t,
    pub xmitOctets: u_int64_t,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ng_bpf_hookstat"][::core::mem::size_of::<ng_bpf_hookstat>() - 48usize];
    [
        "Alignment of ng_bpf_hookstat",
    ][::core::mem::align_of::<ng_bpf_hookstat>() - 8usize];
    [
        "Offset of field: ng_bpf_hookstat::recvFrames",
    ][::core::mem::offset_of!(ng_bpf_hookstat, recvFrames) - 0usize];
    [
        "Offset of field: ng_bpf_hookstat::recvOctets",
    ][::core::mem::offset_of!(ng_bpf_hookstat, recvOctets) - 8usize];
    [
        "Offset of field: ng_bpf_hookstat::recvMatchFrames",
    ][::core::mem::offset_of!(ng_bpf_hookstat, recvMatchFrames) - 16usize];
    [
        "Offset of field: ng_bpf_hookstat::recvMatchOctets",
    ][::core::mem::offset_of!(ng_bpf_hookstat, recvMatchOctets) - 24usize];
    [
        "Offset of field: ng_bpf_hookstat::xmitFrames",
    ][::core::mem::offset_of!(ng_bpf_hookstat, xmitFrames) - 32usize];
    [
        "Offset of field: ng_bpf_hookstat::xmitOctets",
    ][::core::mem::offset_of!(ng_bpf_hookstat, xmitOctets) - 40usize];
};
pub const NGM_BPF_SET_PROGRAM: _bindgen_ty_4 = 1;
pub const NGM_BPF_GET_PROGRAM: _bindgen_ty_4 = 2;
pub const NGM_BPF_GET_STATS: _bindgen_ty_4 = 3;
pub const NGM_BPF_CLR_STATS: _bindgen_ty_4 = 4;
pub const NGM_BPF_GETCLR_STATS: _bindgen_ty_4 = 5;
pub type _bindgen_ty_4 = ::core::ffi::c_uint;
pub const NGM_EIFACE_GET_IFNAME: _bindgen_ty_5 = 1;
pub const NGM_EIFACE_GET_IFADDRS: _bindgen_ty_5 = 2;
pub const NGM_EIFACE_SET: _bindgen_ty_5 = 3;
pub type _bindgen_ty_5 = ::core::ffi::c_uint;
pub const NGM_ETHER_GET_IFNAME: _bindgen_ty_6 = 1;
pub const NGM_ETHER_GET_IFINDEX: _bindgen_ty_6 = 2;
pub const NGM_ETHER_GET_ENADDR: _bindgen_ty_6 = 3;
pub const NGM_ETHER_SET_ENADDR: _bindgen_ty_6 = 4;
pub const NGM_ETHER_GET_PROMISC: _bindgen_ty_6 = 5;
pub const NGM_ETHER_SET_PROMISC: _bindgen_ty_6 = 6;
pub const NGM_ETHER_GET_AUTOSRC: _bindgen_ty_6 = 7;
pub const NGM_ETHER_SET_AUTOSRC: _bindgen_ty_6 = 8;
pub const NGM_ETHER_ADD_MULTI: _bindgen_ty_6 = 9;
pub const NGM_ETHER_DEL_MULTI: _bindgen_ty_6 = 10;
pub const NGM_ETHER_DETACH: _bindgen_ty_6 = 11;
pub type _bindgen_ty_6 = ::core::ffi::c_uint;
pub const NGM_HUB_SET_PERSISTENT: _bindgen_ty_7 = 1;
pub type _bindgen_ty_7 = ::core::ffi::c_uint;
pub const NGM_VLAN_ADD_FILTER: _bindgen_ty_8 = 1;
pub const NGM_VLAN_DEL_FILTER: _bindgen_ty_8 = 2;
pub const NGM_VLAN_GET_TABLE: _bindgen_ty_8 = 3;
pub const NGM_VLAN_DEL_VID_FLT: _bindgen_ty_8 = 4;
pub const NGM_VLAN_GET_DECAP: _bindgen_ty_8 = 5;
pub const NGM_VLAN_SET_DECAP: _bindgen_ty_8 = 6;
pub const NGM_VLAN_GET_ENCAP: _bindgen_ty_8 = 7;
pub const NGM_VLAN_SET_ENCAP: _bindgen_ty_8 = 8;
pub const NGM_VLAN_GET_ENCAP_PROTO: _bindgen_ty_8 = 9;
pub const NGM_VLAN_SET_ENCAP_PROTO: _bindgen_ty_8 = 10;
pub type _bindgen_ty_8 = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ng_vlan_filter {
    pub hook_name: [::core::ffi::c_char; 32usize],
    pub vlan: u16,
    pub vid: u16,
    pub pcp: u8,
    pub cfi: u8,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ng_vlan_filter"][::core::mem::size_of::<ng_vlan_filter>() - 38usize];
    ["Alignment of ng_vlan_filter"][::core::mem::align_of::<ng_vlan_filter>() - 2usize];
    [
        "Offset of field: ng_vlan_filter::hook_name",
    ][::core::mem::offset_of!(ng_vlan_filter, hook_name) - 0usize];
    [
        "Offset of field: ng_vlan_filter::vlan",
    ][::core::mem::offset_of!(ng_vlan_filter, vlan) - 32usize];
    [
        "Offset of field: ng_vlan_filter::vid",
    ][::core::mem::offset_of!(ng_vlan_filter, vid) - 34usize];
    [
        "Offset of field: ng_vlan_filter::pcp",
    ][::core::mem::offset_of!(ng_vlan_filter, pcp) - 36usize];
    [
        "Offset of field: ng_vlan_filter::cfi",
    ][::core::mem::offset_of!(ng_vlan_filter, cfi) - 37usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ng_pipe_hookstat {
    pub fwd_octets: u_int64_t,
    pub fwd_frames: u_int64_t,
    pub in_disc_octets: u_int64_t,
    pub in_disc_frames: u_int64_t,
    pub out_disc_octets: u_int64_t,
    pub out_disc_frames: u_int64_t,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ng_pipe_hookstat"][::core::mem::size_of::<ng_pipe_hookstat>() - 48usize];
    [
        "Alignment of ng_pipe_hookstat",
    ][::core::mem::align_of::<ng_pipe_hookstat>() - 8usize];
    [
        "Offset of field: ng_pipe_hookstat::fwd_octets",
    ][::core::mem::offset_of!(ng_pipe_hookstat, fwd_octets) - 0usize];
    [
        "Offset of field: ng_pipe_hookstat::fwd_frames",
    ][::core::mem::offset_of!(ng_pipe_hookstat, fwd_frames) - 8usize];
    [
        "Offset of field: ng_pipe_hookstat::in_disc_octets",
    ][::core::mem::offset_of!(ng_pipe_hookstat, in_disc_octets) - 16usize];
    [
        "Offset of field: ng_pipe_hookstat::in_disc_frames",
    ][::core::mem::offset_of!(ng_pipe_hookstat, in_disc_frames) - 24usize];
    [
        "Offset of field: ng_pipe_hookstat::out_disc_octets",
    ][::core::mem::offset_of!(ng_pipe_hookstat, out_disc_octets) - 32usize];
    [
        "Offset of field: ng_pipe_hookstat::out_disc_frames",
    ][::core::mem::offset_of!(ng_pipe_hookstat, out_disc_frames) - 40usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ng_pipe_stats {
    pub downstream: ng_pipe_hookstat,
    pub upstream: ng_pipe_hookstat,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ng_pipe_stats"][::core::mem::size_of::<ng_pipe_stats>() - 96usize];
    ["Alignment of ng_pipe_stats"][::core::mem::align_of::<ng_pipe_stats>() - 8usize];
    [
        "Offset of field: ng_pipe_stats::downstream",
    ][::core::mem::offset_of!(ng_pipe_stats, downstream) - 0usize];
    [
        "Offset of field: ng_pipe_stats::upstream",
    ][::core::mem::offset_of!(ng_pipe_stats, upstream) - 48usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ng_pipe_hookcfg {
    pub bandwidth: u_int64_t,
    pub ber: u_int64_t,
    pub qin_size_limit: u_int32_t,
    pub qout_size_limit: u_int32_t,
    pub duplicate: u_int32_t,
    pub fifo: u_int32_t,
    pub drr: u_int32_t,
    pub wfq: u_int32_t,
    pub droptail: u_int32_t,
    pub drophead: u_int32_t,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ng_pipe_hookcfg"][::core::mem::size_of::<ng_pipe_hookcfg>() - 48usize];
    [
        "Alignment of ng_pipe_hookcfg",
    ][::core::mem::align_of::<ng_pipe_hookcfg>() - 8usize];
    [
        "Offset of field: ng_pipe_hookcfg::bandwidth",
    ][::core::mem::offset_of!(ng_pipe_hookcfg, bandwidth) - 0usize];
    [
        "Offset of field: ng_pipe_hookcfg::ber",
    ][::core::mem::offset_of!(ng_pipe_hookcfg, ber) - 8usize];
    [
        "Offset of field: ng_pipe_hookcfg::qin_size_limit",
    ][::core::mem::offset_of!(ng_pipe_hookcfg, qin_size_limit) - 16usize];
    [
        "Offset of field: ng_pipe_hookcfg::qout_size_limit",
    ][::core::mem::offset_of!(ng_pipe_hookcfg, qout_size_limit) - 20usize];
    [
        "Offset of field: ng_pipe_hookcfg::duplicate",
    ][::core::mem::offset_of!(ng_pipe_hookcfg, duplicate) - 24usize];
    [
        "Offset of field: ng_pipe_hookcfg::fifo",
    ][::core::mem::offset_of!(ng_pipe_hookcfg, fifo) - 28usize];
    [
        "Offset of field: ng_pipe_hookcfg::drr",
    ][::core::mem::offset_of!(ng_pipe_hookcfg, drr) - 32usize];
    [
        "Offset of field: ng_pipe_hookcfg::wfq",
    ][::core::mem::offset_of!(ng_pipe_hookcfg, wfq) - 36usize];
    [
        "Offset of field: ng_pipe_hookcfg::droptail",
    ][::core::mem::offset_of!(ng_pipe_hookcfg, droptail) - 40usize];
    [
        "Offset of field: ng_pipe_hookcfg::drophead",
    ][::core::mem::offset_of!(ng_pipe_hookcfg, drophead) - 44usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ng_pipe_cfg {
    pub bandwidth: u_int64_t,
    pub delay: u_int64_t,
    pub header_offset: u_int32_t,
    pub overhead: u_int32_t,
    pub downstream: ng_pipe_hookcfg,
    pub upstream: ng_pipe_hookcfg,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ng_pipe_cfg"][::core::mem::size_of::<ng_pipe_cfg>() - 120usize];
    ["Alignment of ng_pipe_cfg"][::core::mem::align_of::<ng_pipe_cfg>() - 8usize];
    [
        "Offset of field: ng_pipe_cfg::bandwidth",
    ][::core::mem::offset_of!(ng_pipe_cfg, bandwidth) - 0usize];
    [
        "Offset of field: ng_pipe_cfg::delay",
    ][::core::mem::offset_of!(ng_pipe_cfg, delay) - 8usize];
    [
        "Offset of field: ng_pipe_cfg::header_offset",
    ][::core::mem::offset_of!(ng_pipe_cfg, header_offset) - 16usize];
    [
        "Offset of field: ng_pipe_cfg::overhead",
    ][::core::mem::offset_of!(ng_pipe_cfg, overhead) - 20usize];
    [
        "Offset of field: ng_pipe_cfg::downstream",
    ][::core::mem::offset_of!(ng_pipe_cfg, downstream) - 24usize];
    [
        "Offset of field: ng_pipe_cfg::upstream",
    ][::core::mem::offset_of!(ng_pipe_cfg, upstream) - 72usize];
};
pub const NGM_PIPE_GET_STATS: _bindgen_ty_9 = 1;
pub const NGM_PIPE_CLR_STATS: _bindgen_ty_9 = 2;
pub const NGM_PIPE_GETCLR_STATS: _bindgen_ty_9 = 3;
pub const NGM_PIPE_GET_RUN: _bindgen_ty_9 = 4;
pub const NGM_PIPE_GET_CFG: _bindgen_ty_9 = 5;
pub const NGM_PIPE_SET_CFG: _bindgen_ty_9 = 6;
pub type _bindgen_ty_9 = ::core::ffi::c_uint;
pub const NGM_MACFILTER_RESET: _bindgen_ty_10 = 1;
pub const NGM_MACFILTER_DIRECT: _bindgen_ty_10 = 2;
pub const NGM_MACFILTER_DIRECT_HOOKID: _bindgen_ty_10 = 3;
pub const NGM_MACFILTER_GET_MACS: _bindgen_ty_10 = 4;
pub const NGM_MACFILTER_GETCLR_MACS: _bindgen_ty_10 = 5;
pub const NGM_MACFILTER_CLR_MACS: _bindgen_ty_10 = 6;
pub const NGM_MACFILTER_GET_HOOKS: _bindgen_ty_10 = 7;
pub type _bindgen_ty_10 = ::core::ffi::c_uint;
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ngm_macfilter_direct {
    pub ether: [u_char; 6usize],
    pub hookname: [u_char; 32usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of ngm_macfilter_direct",
    ][::core::mem::size_of::<ngm_macfilter_direct>() - 38usize];
    [
        "Alignment of ngm_macfilter_direct",
    ][::core::mem::align_of::<ngm_macfilter_direct>() - 1usize];
    [
        "Offset of field: ngm_macfilter_direct::ether",
    ][::core::mem::offset_of!(ngm_macfilter_direct, ether) - 0usize];
    [
        "Offset of field: ngm_macfilter_direct::hookname",
    ][::core::mem::offset_of!(ngm_macfilter_direct, hookname) - 6usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ngm_macfilter_direct_hookid {
    pub ether: [u_char; 6usize],
    pub hookid: u_int16_t,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of ngm_macfilter_direct_hookid",
    ][::core::mem::size_of::<ngm_macfilter_direct_hookid>() - 8usize];
    [
        "Alignment of ngm_macfilter_direct_hookid",
    ][::core::mem::align_of::<ngm_macfilter_direct_hookid>() - 2usize];
    [
        "Offset of field: ngm_macfilter_direct_hookid::ether",
    ][::core::mem::offset_of!(ngm_macfilter_direct_hookid, ether) - 0usize];
    [
        "Offset of field: ngm_macfilter_direct_hookid::hookid",
    ][::core::mem::offset_of!(ngm_macfilter_direct_hookid, hookid) - 6usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ngm_macfilter_mac {
    pub ether: [u_char; 6usize],
    pub hookid: u_int16_t,
    pub packets_in: u_int64_t,
    pub bytes_in: u_int64_t,
    pub packets_out: u_int64_t,
    pub bytes_out: u_int64_t,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ngm_macfilter_mac"][::core::mem::size_of::<ngm_macfilter_mac>() - 40usize];
    [
        "Alignment of ngm_macfilter_mac",
    ][::core::mem::align_of::<ngm_macfilter_mac>() - 8usize];
    [
        "Offset of field: ngm_macfilter_mac::ether",
    ][::core::mem::offset_of!(ngm_macfilter_mac, ether) - 0usize];
    [
        "Offset of field: ngm_macfilter_mac::hookid",
    ][::core::mem::offset_of!(ngm_macfilter_mac, hookid) - 6usize];
    [
        "Offset of field: ngm_macfilter_mac::packets_in",
    ][::core::mem::offset_of!(ngm_macfilter_mac, packets_in) - 8usize];
    [
        "Offset of field: ngm_macfilter_mac::bytes_in",
    ][::core::mem::offset_of!(ngm_macfilter_mac, bytes_in) - 16usize];
    [
        "Offset of field: ngm_macfilter_mac::packets_out",
    ][::core::mem::offset_of!(ngm_macfilter_mac, packets_out) - 24usize];
    [
        "Offset of field: ngm_macfilter_mac::bytes_out",
    ][::core::mem::offset_of!(ngm_macfilter_mac, bytes_out) - 32usize];
};
#[repr(C)]
#[derive(Copy, Clone)]
pub struct ngm_macfilter_hook {
    pub hookname: [u_char; 32usize],
    pub hookid: u_int16_t,
    pub maccnt: u_int32_t,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    [
        "Size of ngm_macfilter_hook",
    ][::core::mem::size_of::<ngm_macfilter_hook>() - 40usize];
    [
        "Alignment of ngm_macfilter_hook",
    ][::core::mem::align_of::<ngm_macfilter_hook>() - 4usize];
    [
        "Offset of field: ngm_macfilter_hook::hookname",
    ][::core::mem::offset_of!(ngm_macfilter_hook, hookname) - 0usize];
    [
        "Offset of field: ngm_macfilter_hook::hookid",
    ][::core::mem::offset_of!(ngm_macfilter_hook, hookid) - 32usize];
    [
        "Offset of field: ngm_macfilter_hook::maccnt",
    ][::core::mem::offset_of!(ngm_macfilter_hook, maccnt) - 36usize];
};
pub const WARREN_SIZEOF_NG_MESG: _bindgen_ty_11 = 56;
pub const WARREN_SIZEOF_HOOKLIST: _bindgen_ty_11 = 72;
pub const WARREN_SIZEOF_NAMELIST: _bindgen_ty_11 = 4;
pub const WARREN_SIZEOF_TYPELIST: _bindgen_ty_11 = 4;
pub const WARREN_SIZEOF_BRIDGE_HOST_ARY: _bindgen_ty_11 = 4;
pub const WARREN_SIZEOF_BPF_HOOKPROG: _bindgen_ty_11 = 100;
pub const WARREN_BPF_HOOKPROG_THIS: _bindgen_ty_11 = 0;
pub const WARREN_BPF_HOOKPROG_MATCH: _bindgen_ty_11 = 32;
pub const WARREN_BPF_HOOKPROG_NOT_MATCH: _bindgen_ty_11 = 64;
pub const WARREN_BPF_HOOKPROG_LEN: _bindgen_ty_11 = 96;
pub const WARREN_BPF_HOOKPROG_PROG: _bindgen_ty_11 = 100;
pub const WARREN_SOCKADDR_NG_DATA: _bindgen_ty_11 = 2;
pub type _bindgen_ty_11 = ::core::ffi::c_uint;
