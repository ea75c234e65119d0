# shellcheck shell=sh
# Two hosts, for checks with programs that nobody here wrote: the network namespaces "client"
# (10.0.0.1, fd00::1) and "server" (10.0.0.2, fd00::2), joined by veth. A check sources this file,
# and calls network_begin first and network_end last; what ends it before is cleaned up as well.

PATH=$PATH:$PROGRAMS
W=/tmp/programs # whatever a check writes
TAG="code=l45_stream_tag epoch=1 token=0102030405060708 parameters=2a00000000000000e8030000 protocol=tcp"
XOR="code=l45_stream_xor epoch=2 token=1112131415161718 parameters=5a6b7c0d protocol=tcp"
APP="code=l45_dns_app_tag protocol=udp"
COMPRESS="code=l45_dns_compress protocol=udp"
servers=""

network_begin() {
	mkdir -p $W
	load
	ip netns add client
	ip netns add server
	trap 'servers_end; network_remove; unload' EXIT
	ip link add eth0 netns client type veth peer name eth0 netns server
	host client 10.0.0.1/24 fd00::1/64
	host server 10.0.0.2/24 fd00::2/64
}

load() {
	insmod /run/vm/l45.ko
	for module in stream_tag stream_xor dns_app_tag dns_compress; do
		insmod /run/vm/l45_$module.ko
	done
}

host() { # NAME ADDRESS...
	name=$1
	shift
	ip -netns "$name" link set lo up
	ip -netns "$name" link set eth0 up
	for address in "$@"; do
		ip -netns "$name" address add "$address" dev eth0 $(nodad "$address")
	done
}

# An IPv6 address can be used at once where nobody looks for another one's that is the same.
nodad() {
	case $1 in *:*) echo nodad ;; esac
}

client() { ip netns exec client "$@"; }
server() { ip netns exec server "$@"; }

# Start a server, and wait until it serves a port: `serve tcp PORT COMMAND...` (or udp).
serve() {
	protocol=$1 port=$2
	shift 2
	ip netns exec server "$@" &
	servers="$servers $!"
	until_holds "$1 serves $protocol port $port" served "$protocol" "$port"
}

served() { [ -n "$(server ss -Hanl "--$1" "sport = :$2")" ]; }

servers_end() {
	for pid in $servers; do
		kill "$pid" 2>/dev/null || continue
		wait "$pid" || true
	done
	servers=""
}

network_remove() {
	trap - EXIT
	for name in client server; do
		ip netns delete $name
	done
	rm -rf $W
}

unload() {
	for _ in $(seq 50); do # until the kernel has taken the namespaces down
		for module in /sys/module/l45_*; do
			[ ! -e "$module" ] || rmmod "${module##*/}" 2>/dev/null || true
		done
		! rmmod l45 2>/dev/null || return 0
		sleep 0.1
	done
}

network_end() {
	servers_end
	network_remove
	unload
	holds "the tap is unloaded" [ ! -e /sys/module/l45 ]
	holds "it had no complaint" [ -z "$(dmesg --level=emerg,alert,crit,err,warn | grep l45 | grep -v taint)" ]
}

# The whole set of a host: `customize HOST CUSTOMIZATION [-- CUSTOMIZATION]...` (l45-set).
customize() {
	on=$1
	shift
	ip netns exec "$on" l45-set apply drain=1000 "$@" >/dev/null
}

# No customizations on either side, and none that is drained still.
plain_again() {
	for name in client server; do
		ip netns exec $name l45-set none drain=1000 >/dev/null
	done
	until_holds "the client's are gone" none_left_on client
	until_holds "the server's are gone" none_left_on server
}

none_left_on() { [ -z "$(ip netns exec "$1" l45-set list)" ]; }

# A counter of all customizations of a host that use this code: `counted HOST CODE COUNTER`.
counted() {
	ip netns exec "$1" l45-set list | awk -v code="code=l45_$2" -v counter="counters.$3=" '
		index($0, code " ") {
			for (i = 1; i <= NF; i++)
				if (index($i, counter) == 1)
					sum += substr($i, length(counter) + 1)
		}
		END { print sum + 0 }'
}

# Both hosts have sent and received with a module, and had no error: `both_counted CODE`.
both_counted() {
	for name in client server; do
		sent=$(counted $name "$1" sent)
		received=$(counted $name "$1" received)
		errors=$(counted $name "$1" errors)
		holds "$name: $1 sent $sent, received $received, errors $errors" \
			[ "$sent" -gt 0 -a "$received" -gt 0 -a "$errors" = 0 ]
	done
}

# Capture at the server's interface what passes from now on: `capture FILE OPTION...` (tcpdump's).
capture() {
	file=$1
	shift
	ip netns exec server tcpdump -q -B 16384 -Z root -U -i eth0 -w "$file" "$@" 2>$W/tcpdump &
	capturing=$!
	until_holds "tcpdump captures" grep -q "listening on" $W/tcpdump
}

captured() {
	sleep 1
	kill "$capturing" 2>/dev/null || true # or it had enough
	wait "$capturing" || true
}

# In how many lines of a part of a capture a pattern stands: `in_capture FILE FILTER PATTERN`.
in_capture() {
	tcpdump -r "$1" -w - "$2" 2>/dev/null | LC_ALL=C grep -acE "$3" || true
}

sum() { sha256sum <"$1"; }
same() { holds "$1 and $2 are the same" [ "$(sum "$1")" = "$(sum "$2")" ]; }

holds() { # WHAT COMMAND...
	what=$1
	shift
	"$@" || {
		echo "does not hold: $what ($*)"
		exit 1
	}
	read -r now _ </proc/uptime
	echo "$now ok: $what"
}

until_holds() { # WHAT COMMAND..., for 20 seconds
	awaited=$1
	shift
	for _ in $(seq 200); do
		! "$@" || return 0
		sleep 0.1
	done
	holds "$awaited" "$@"
}
