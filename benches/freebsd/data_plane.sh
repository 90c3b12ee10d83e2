#!/bin/sh
# The data plane: TCP throughput and small UDP packets a second, jail to jail and jail to host, with 2 jails and with 50 on the network.
# Warren's graph (eiface, filter, ng_bridge) against epair and if_bridge, in turn, in one run on one machine.
#
#   benches/freebsd/data_plane.sh [JAILS...]      on FreeBSD, as root, on a machine that may be changed; default 2 50
#
# WARREN and PACKETS (benches/freebsd/packets.rs) are the programs; ROUNDS (3) how often each is measured, of which the median counts.
# Only the ratios mean anything beyond this machine.
set -u
WARREN=${WARREN:-warren} PACKETS=${PACKETS:-packets} ROUNDS=${ROUNDS:-3} SECONDS_EACH=${SECONDS_EACH:-3}
[ $# -gt 0 ] || set -- 2 50
work=$(mktemp -d /var/tmp/warren-bench.XXXXXX)
export WARREN_STATE_DIR=$work/state
mkdir "$work/root" && mount -t nullfs / "$work/root" || exit 1
kldload -n pf ng_socket ng_bridge ng_eiface ng_ether ng_bpf ng_hub nullfs if_bridge if_epair
sysctl -q net.inet.ip.forwarding=1
printf 'set skip on lo0\nnat-anchor "warren/*"\nrdr-anchor "warren/*"\nanchor "warren/*"\npass all\n' | pfctl -q -f -
pfctl -s info | grep -q 'Status: Enabled' || pfctl -q -e

# measure KIND RECEIVING-JAIL-or-"" ADDRESS SENDING-JAIL: what arrives in a second
measure() {
	[ -z "$2" ] && in= || in="jexec $2"
	$in "$PACKETS" receive "$1" 9000 "$SECONDS_EACH" >"$work/got" &
	receiver=$!
	sleep 1
	jexec "$4" "$PACKETS" send "$1" "$3" 9000 "$SECONDS_EACH" 2>/dev/null &
	wait $receiver
	wait
	cat "$work/got"
}
median() { sort -n | awk '{v[NR]=$1} END {print v[int((NR+1)/2)]}'; }
four() { # label, jail a, its address, jail b, the host's address
	for what in "tcp jail-jail" "udp jail-jail" "tcp jail-host" "udp jail-host"; do
		kind=${what%% *}
		r=0
		: >"$work/all"
		while [ $r -lt "$ROUNDS" ]; do
			case $what in
			*jail-jail) measure "$kind" "$2" "$3" "$4" >>"$work/all" ;;
			*) measure "$kind" "" "$5" "$4" >>"$work/all" ;;
			esac
			r=$((r + 1))
		done
		eval "${1}_$(echo "$what" | tr ' -' '__')=$(median <"$work/all")"
	done
}

printf '%-6s %-15s %12s %12s %8s\n' jails what ng_bridge if_bridge ratio
for n in "$@"; do
	cat >"$work/w.toml" <<X
name = "bench"
[networks.net]
ipv4 = "10.89.0.0/24"
quarantine = "0s"
[templates.root]
shared = "$work/root"
[services.one]
template = "root"
networks = ["net"]
replicas = $n
drain = "0s"
command = ["/bin/sleep", "100000"]
X
	"$WARREN" up "$work/w.toml" --timeout 600s >/dev/null || exit 1
	set -- $("$WARREN" ps | awk '$3 == "one" {split($2, p, "-"); print "warren-" p[2], $5}' | head -2)
	four ng "$1" "$2" "$3" 10.89.0.1
	"$WARREN" down bench >/dev/null

	bridge=$(ifconfig bridge create inet 10.90.0.1/24 up)
	i=1
	while [ $i -le "$n" ]; do
		a=$(ifconfig epair create)
		ifconfig "$a" up
		ifconfig "$bridge" addm "$a"
		jail -c name=e$i persist vnet path=/ vnet.interface="${a%a}b"
		jexec e$i ifconfig "${a%a}b" inet 10.90.0.$((i + 9))/24 up
		echo "$a" >>"$work/pairs"
		i=$((i + 1))
	done
	four if e1 10.90.0.10 e2 10.90.0.1
	i=1
	while [ $i -le "$n" ]; do jail -r e$i; i=$((i + 1)); done
	sleep 1
	while read -r a; do ifconfig "$a" destroy; done <"$work/pairs"
	rm "$work/pairs"
	ifconfig "$bridge" destroy
	for what in tcp_jail_jail udp_jail_jail tcp_jail_host udp_jail_host; do
		eval "ours=\$ng_$what theirs=\$if_$what"
		unit=$([ "${what%%_*}" = tcp ] && echo MiB/s || echo packets/s)
		awk -v n="$n" -v w="$what" -v u="$unit" -v a="$ours" -v b="$theirs" 'BEGIN {printf "%-6s %-15s %12s %12s %8.2f  (%s)\n", n, w, a, b, (b > 0) ? a / b : 0, u}'
	done
done
"$WARREN" shutdown >/dev/null
umount "$work/root"
rm -rf "$work"
