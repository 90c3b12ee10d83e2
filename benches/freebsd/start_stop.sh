#!/bin/sh
# Starting and stopping N vnet jails, each with a link on one bridge, an address, a default route and one process: Warren against
# jail(8) doing the same with ngctl and ifconfig in its hooks, one by one and in parallel, in one run on one machine.
#
#   benches/freebsd/start_stop.sh [N...]        on FreeBSD, as root, on a machine that may be changed; default 20 50
#
# WARREN is the program. TUNED=1: pf's tables as packaging/loader.conf.sample has them (before pf is loaded); each vnet has its own, and
# making them is most of what a jail costs, jail(8)'s too.
#
# Read the ratios; the seconds are this machine's. "up" is how many of N run and have their address, "left" how many jails, nodes and
# interfaces are there after the stop.
set -u
WARREN=${WARREN:-warren}
[ $# -gt 0 ] || set -- 20 50
work=$(mktemp -d /var/tmp/warren-bench.XXXXXX)
export WARREN_STATE_DIR=$work/state
# One root for all of them, in both worlds.
mkdir "$work/root" && mount -t nullfs / "$work/root" || exit 1
if [ -n "${TUNED:-}" ]; then
	kldstat -q -m pf && { echo "pf is loaded already: its tables are what they are" >&2; exit 1; }
	kenv net.pf.states_hashsize=4096 >/dev/null
	kenv net.pf.source_nodes_hashsize=1024 >/dev/null
fi
kldload -n pf ng_socket ng_bridge ng_eiface ng_ether ng_bpf ng_hub nullfs
sysctl -q net.inet.ip.forwarding=1
printf 'set skip on lo0\nnat-anchor "warren/*"\nrdr-anchor "warren/*"\nanchor "warren/*"\npass all\n' | pfctl -q -f -
pfctl -s info | grep -q 'Status: Enabled' || pfctl -q -e

# date(1) of 13.2 knows no fractions; time(1) does.
timed() { # name command...: sets $seconds
	name=$1; shift
	/usr/bin/time -p -o "$work/time" "$@" >"$work/$name.out" 2>&1
	seconds=$(awk '/^real/{print $2}' "$work/time")
}

jailconf() { # n
	echo "path = \"$work/root\"; vnet; host.hostname = \$name; persist; exec.clean; stop.timeout = 10;"
	i=1
	while [ $i -le "$1" ]; do
		host=$((i + 99))
		cat <<X
j$i {
	exec.prestart = "ngctl mkpeer benchbr: eiface link$host ether && ngctl name benchbr:link$host j${i}n && ifconfig \$(ngctl msg j${i}n: getifname | awk -F'\"' '/Args/{print \\\$2}') name j${i}i";
	vnet.interface = j${i}i;
	exec.start = "ifconfig lo0 127.0.0.1/8 up; ifconfig j${i}i inet 10.88.0.$host/24 up; route -q add default 10.88.0.1; daemon sleep 100000";
	exec.prestop = "ifconfig j${i}i -vnet j$i";
	exec.poststop = "ngctl shutdown j${i}n:";
}
X
		i=$((i + 1))
	done
}
jail_up() { jls -N name | grep '^j[0-9]' | while read -r j; do jexec "$j" ifconfig 2>/dev/null | grep -q 'inet 10.88.0' && [ -n "$(ps -J "$j" -o pid=)" ] && echo "$j"; done | wc -l | tr -d ' '; }
jail_left() { echo $(($(jls -N name | grep -c '^j[0-9]') + $(ngctl list 2>/dev/null | grep -c 'Name: j[0-9]*n ') + $(ifconfig -l | tr ' ' '\n' | grep -c '^j[0-9]*i$\|^ngeth'))); }
jail_clear() {
	for j in $(jls -N name | grep '^j[0-9]'); do jail -R -f "$work/jail.conf" "$j" 2>/dev/null || jail -R "$j"; done
	sleep 1
	for node in $(ngctl list | awk '$4 == "eiface" && ($2 ~ /^j[0-9]+n$/ || $2 ~ /^ngeth/) {print $2}'); do ngctl shutdown "$node:" 2>/dev/null; done
}

line() { printf '%-34s %4s %9s %9s %6s %6s\n' "$@"; }
line what N start stop up left
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
replicas = 0
drain = "0s"
command = ["/bin/sleep", "100000"]
X
	warren_up() { jls -N name | grep '^warren-' | while read -r j; do jexec "$j" ifconfig 2>/dev/null | grep -q 'inet 10.89.0' && [ -n "$(ps -J "$j" -o pid=)" ] && echo "$j"; done | wc -l | tr -d ' '; }
	warren_left() { echo $(($(jls -N name | grep -c '^warren-') + $(ngctl list 2>/dev/null | awk '$2 ~ /^[fw][0-9a-z]{8}$/' | wc -l) + $(ifconfig -l | tr ' ' '\n' | grep -c '^w[0-9a-z]\{8\}$'))); }
	"$WARREN" up "$work/w.toml" >/dev/null || exit 1
	timed start "$WARREN" scale one="$n"; start=$seconds; up=$(warren_up)
	timed stop "$WARREN" scale one=0; stop=$seconds
	line "warren, in parallel" "$n" "$start" "$stop" "$up" "$(warren_left)"; w_start=$start; w_stop=$stop
	timed start sh -c "i=1; while [ \$i -le $n ]; do $WARREN scale one=\$i; i=\$((i+1)); done"; start=$seconds; up=$(warren_up)
	timed stop sh -c "i=$n; while [ \$i -gt 0 ]; do i=\$((i-1)); $WARREN scale one=\$i; done"; stop=$seconds
	line "warren, one by one" "$n" "$start" "$stop" "$up" "$(warren_left)"; v_start=$start; v_stop=$stop
	"$WARREN" down bench >/dev/null
	# A bridge that lives on without the socket that made it, and a gateway on it.
	ngctl -f - <<X
mkpeer . eiface gw ether
name .:gw benchgw
rmhook . gw
mkpeer benchgw: bridge ether link1
name benchgw:ether benchbr
msg benchbr: setpersistent
X
	gw=$(ngctl msg benchgw: getifname | awk -F'"' '/Args/{print $2}')
	ifconfig "$gw" name benchgw >/dev/null
	ifconfig benchgw inet 10.88.0.1/24 up
	jailconf "$n" >"$work/jail.conf"

	timed start sh -c "i=1; while [ \$i -le $n ]; do jail -q -f $work/jail.conf -c j\$i; i=\$((i+1)); done"; start=$seconds; up=$(jail_up)
	timed stop sh -c "i=1; while [ \$i -le $n ]; do jail -q -f $work/jail.conf -r j\$i; i=\$((i+1)); done"; stop=$seconds
	line "jail(8), one by one" "$n" "$start" "$stop" "$up" "$(jail_left)"; one_start=$start; one_stop=$stop
	jail_clear
	# Seen to hang for ever: MKPEER at a busy bridge runs in the queue's thread.
	timed start timeout -k 5 120 jail -q -f "$work/jail.conf" -c '*'; start=$seconds; up=$(jail_up)
	timed stop timeout -k 5 120 jail -q -f "$work/jail.conf" -r '*'; stop=$seconds
	line "jail(8), in parallel" "$n" "$start" "$stop" "$up" "$(jail_left)"; all_start=$start; all_stop=$stop; all_up=$up
	jail_clear
	ngctl shutdown benchbr: ; ngctl shutdown benchgw:

	ratio() { awk -v a="$1" -v b="$2" 'BEGIN { r = (b > 0) ? a / b : 0; printf "%.1f", r }'; }
	echo "$n jails: Warren starts $(ratio "$all_start" "$w_start") times as fast as jail(8) in parallel (which had $all_up of $n up), stops $(ratio "$all_stop" "$w_stop") times;"
	echo "  one by one: starts $(ratio "$one_start" "$v_start") times as fast, stops $(ratio "$one_stop" "$v_stop") times."
done
"$WARREN" shutdown >/dev/null
umount "$work/root"
rm -rf "$work"
