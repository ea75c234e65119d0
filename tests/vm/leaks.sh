# shellcheck shell=sh
# What a check left behind in the guest. guest.sh calls leaks_before, runs the check, and calls
# leaks_after, which prints a line for each leak and removes what it can, for the next check's sake.

LEAK_SECONDS=20 # for sockets and namespaces, which the kernel frees some time after their end
KMEMLEAK=/sys/kernel/debug/kmemleak

leaks_before() {
	settle
	networks >/run/networks
	sockets >/run/sockets
	dmesg --clear # from here on dmesg is about this check
	[ ! -e $KMEMLEAK ] || {
		echo scan >$KMEMLEAK
		echo clear >$KMEMLEAK
	}
}

leaks_after() {
	processes_left
	ip netns list | while read -r name _; do
		echo "network namespace left: $name"
		ip netns delete "$name"
	done
	modules_left
	wait_for networks
	wait_for sockets
	dmesg --level=emerg,alert,crit,err | sed -n '/l45[_a-z0-9]*:/s/^/kernel error: /p'
	[ ! -e $KMEMLEAK ] || memory_left
}

processes_left() {
	for _ in 1 2 3; do # one that was told to end may be about to
		[ -n "$(processes)" ] || return 0
		sleep 1
	done
	for pid in $(processes); do
		echo "process left: $pid $(tr '\0' ' ' <"/proc/$pid/cmdline")"
		kill -9 "$pid"
	done
}

# Whatever runs a program; but not the guest's first process, nor the one that looks.
processes() {
	read -r self _ </proc/self/stat
	for exe in /proc/[0-9]*/exe; do
		pid=${exe#/proc/}
		pid=${pid%/exe}
		[ ! -e "$exe" ] || [ "$pid" = 1 ] || [ "$pid" = "$self" ] || echo "$pid"
	done
}

# A module that customizes cannot go.
modules_left() {
	[ -e /sys/module/l45 ] || return 0
	lsmod | awk '/^l45/ { print "module left: " $0 }'
	"$PROGRAMS/l45-set" none drain=0 >/dev/null
	for name in $(lsmod | awk '/^l45_/ { print $1 }') l45; do
		timeout 30 rmmod "$name"
	done
}

# Below, a line is a name and a number.

networks() {
	lsns --noheadings --type net --output NS | sed 's/^ */namespace:/; s/$/ 1/'
	ip -brief link show type veth | awk '{ print $1, 1 }'
}

# Of all namespaces: objects in the kernel's caches, which shrinking makes exact where KASAN keeps
# what was freed. Of this one: its own counters. Not sockets of every kind, of which the kernel's own
modules open some when they are loaded; not time-wait sockets, which are no sockets any
# more, nor pages, which are counted in large steps.
sockets() {
	for cache in TCP TCPv6 UDP UDPv6 MPTCP MPTCPv6 RAW RAWv6 net_namespace; do
		[ -e /sys/kernel/slab/$cache ] || continue
		echo 1 >/sys/kernel/slab/$cache/shrink
		awk -v name=$cache '$1 == name { print "slab:" name, $2 }' /proc/slabinfo
	done
	awk '{ for (i = 2; i < NF; i += 2) if ($i !~ /^(mem|memory|tw)$/) print $1 $i, $(i + 1) }' \
		/proc/net/sockstat /proc/net/sockstat6
	awk '$1 ~ /^(MPTCP|TCP|UDP|RAW|PACKET)/ { print "protocols:" $1, $3 }' /proc/net/protocols
}

# The memory of a network namespace is freed when the next one ends.
settle() {
	unshare --net true
	sleep 1
}

# Wait until there is no more of it than before, or say what there is.
wait_for() {
	until=$(($(date +%s) + LEAK_SECONDS))
	while [ "$(date +%s)" -lt $until ]; do
		more=$("$1" | awk 'NR == FNR { was[$1] = $2; next }
			$2 > was[$1] + 0 { print "is", $1, $2, "was", was[$1] + 0 }' "/run/$1" -)
		[ -n "$more" ] || return 0
		settle
	done
	echo "$more" | sed "s/^/$1 left: /"
}

# What is reported has been unreachable, and unchanged, in two scans, and is older than 5 seconds.
# Of modules that are gone kmemleak has addresses only; a check may keep their names beforehand:
# grep '\[l45' /proc/kallsyms | sort >/run/symbols
memory_left() {
	sleep 5
	echo scan >$KMEMLEAK
	echo scan >$KMEMLEAK
	[ -e /run/symbols ] || : >/run/symbols
	awk 'FILENAME == ARGV[1] { address[++count] = $1; name[count] = $3 " " $4; next }
		/^unreferenced/ { reports++ }
		/^ *0xf/ { for (i = count; i && address[i] > substr($1, 3); i--); $0 = $0 " " name[i] }
		reports <= 3 { print "memory left: " $0 }
		END { if (reports > 3) print "memory left: " reports " such objects in all" }
	' /run/symbols $KMEMLEAK
	rm /run/symbols
}
