/*
 * What the kernel and this crate say to each other, for bindgen.  See ./generate.
 * Structures that end in a flexible array are not taken (bindgen would add code for them):
 * their sizes and offsets come as constants, below.
 */
#include <sys/types.h>
#include <stddef.h>
#include <errno.h>
#include <sys/socket.h>
#include <net/ethernet.h>	/* ng_bridge.h wants ETHER_ADDR_LEN and does not say so */
#include <net/if.h>
#include <net/bpf.h>
#include <netgraph/ng_message.h>
#include <netgraph/ng_socket.h>
#include <netgraph/ng_bridge.h>
#include <netgraph/ng_bpf.h>
#include <netgraph/ng_eiface.h>
#include <netgraph/ng_ether.h>
#include <netgraph/ng_hub.h>
#include <netgraph/ng_vlan.h>
#include <netgraph/ng_pipe.h>
#include <netgraph/ng_macfilter.h>

enum {
	WARREN_SIZEOF_NG_MESG = sizeof(struct ng_mesg),
	WARREN_SIZEOF_HOOKLIST = sizeof(struct hooklist),
	WARREN_SIZEOF_NAMELIST = sizeof(struct namelist),
	WARREN_SIZEOF_TYPELIST = sizeof(struct typelist),
	WARREN_SIZEOF_BRIDGE_HOST_ARY = sizeof(struct ng_bridge_host_ary),
	WARREN_SIZEOF_BPF_HOOKPROG = sizeof(struct ng_bpf_hookprog),
	WARREN_BPF_HOOKPROG_THIS = offsetof(struct ng_bpf_hookprog, thisHook),
	WARREN_BPF_HOOKPROG_MATCH = offsetof(struct ng_bpf_hookprog, ifMatch),
	WARREN_BPF_HOOKPROG_NOT_MATCH = offsetof(struct ng_bpf_hookprog, ifNotMatch),
	WARREN_BPF_HOOKPROG_LEN = offsetof(struct ng_bpf_hookprog, bpf_prog_len),
	WARREN_BPF_HOOKPROG_PROG = offsetof(struct ng_bpf_hookprog, bpf_prog),
	WARREN_SOCKADDR_NG_DATA = offsetof(struct sockaddr_ng, sg_data),
};
