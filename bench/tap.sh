# What `make bench-tap` measures, in the kernel that it is run in: as root, by `sh -eu`. It prints a
# line for each measurement, CASE VARIANT NAME=NUMBER..., which bench/tap.py makes a table of, and
# leaves perf's profile of a customized transfer in $RESULTS.
# $KMOD has the kernel modules and the eBPF one, $PROGRAMS and $BENCH programs. A transfer sends
# $BYTES; $COUNT questions and connections are asked for, and everything $ROUNDS times. TAG_1000,
# TAG_65280 and XOR are parameters of modules. CASES are names of functions below. COUNTED is empty but where instructions are the time.
# shellcheck shell=sh

near=l45-bench-near
far=l45-bench-far
address=10.45.0.2
work=$(mktemp -d)
servers=
number=0 # of the last customization
modules="stream_tag stream_xor dns_app_tag"
ulimit -n 4096

in_near() { ip netns exec $near "$@"; }
in_far() { ip netns exec $far "$@"; }

make_network() {
	for name in $near $far; do
		ip netns add "$name"
		ip -netns "$name" link set lo up
	done
	ip -netns $near link add veth0 type veth peer name veth0 netns $far
	ip -netns $near address add 10.45.0.1/24 dev veth0
	ip -netns $far address add $address/24 dev veth0
	ip -netns $near link set veth0 up
	ip -netns $far link set veth0 up
	in_near sysctl -q net.ipv4.ip_local_port_range="1024 65535"
}

clean_up() {
	code=$?
	[ $code = 0 ] || cat "$work"/*.log
	stop
	! is_loaded || unload
	ip netns delete $near
	ip netns delete $far
	rm -r "$work"
	exit $code
}

# ---- servers, in the far namespace ----

# start PROGRAM...: until `stop`. Not by in_far: $! must be the program itself.
start() {
	ip netns exec $far "$@" >>"$work/server.log" 2>&1 &
	servers="$servers $!"
}

# serve PORT PROGRAM...: returns when it listens on the port, TCP or UDP.
serve() {
	port=$1
	shift
	start "$@"
	for _ in $(seq 200); do
		[ -z "$(in_far ss -Htuln "sport = :$port")" ] || return 0
		sleep 0.05
	done
	echo "nothing listens on port $port: $*"
	exit 1
}

stop() {
	for pid in $servers; do
		kill "$pid" || true # one that has failed has said why
		wait "$pid" 2>/dev/null || true
	done
	servers=
}

# ---- the tap ----

is_loaded() { grep -q '^l45 ' /proc/modules; }

load() {
	! is_loaded || return 0
	insmod "$KMOD/l45.ko"
	for module in $modules; do
		insmod "$KMOD/l45_$module.ko"
	done
}

# A module can go when the last flow of its customizations has gone.
unload() {
	for side in in_near in_far; do
		$side "$PROGRAMS/l45-set" none >/dev/null
	done
	for module in $modules; do
		for _ in $(seq 100); do
			! rmmod "l45_$module" 2>>"$work/rmmod.log" || break
			sleep 0.1
		done
	done
	rmmod l45
}

# On both sides, in place of what was there: id and epoch are used once.
customize() {
	number=$((number + 1))
	id=$(printf %032x $number)
	for side in in_near in_far; do
		$side "$PROGRAMS/l45-set" apply "$@" id="$id" epoch=$number \
			token=0001020304050607 >/dev/null
	done
}

customize_tcp() { customize protocol=tcp remote="10.45.0.0/24" "$@"; }

customize_dns() {
	in_near "$PROGRAMS/l45-set" apply code=l45_dns_app_tag protocol=udp remote_port=53 flags=send
	in_far "$PROGRAMS/l45-set" apply code=l45_dns_app_tag protocol=udp local_port=53 flags=receive
}

# use VARIANT: bring the taps to it. `unmatched` has a customization, for somebody else.
use() {
	variant=$1
	case $variant in
	bare | bpf)
		! is_loaded || unload
		;;
	*) load ;;
	esac
	case $variant in
	unmatched)
		customize protocol=udp process=nobody code=l45_dns_app_tag id=$(printf %032x 45) \
			-- protocol=tcp process=nobody code=l45_stream_tag parameters="$TAG_1000"
		;;
	tag-1000) customize_tcp code=l45_stream_tag parameters="$TAG_1000" ;;
	tag-65280) customize_tcp code=l45_stream_tag parameters="$TAG_65280" ;;
	xor) customize_tcp code=l45_stream_xor parameters="$XOR" ;;
	kmod) customize_dns >/dev/null ;;
	esac
}

# The eBPF tap's driver is in Python, which takes its time to begin: one process does it all.
start_bpf() {
	mkfifo "$work/asked" "$work/done"
	$PYTHON -m bench.tap_bpf "$KMOD/dns_app_tag.o" $near $far \
		<"$work/asked" >"$work/done" 2>"$work/bpf.log" &
	bpf_driver=$!
	exec 3>"$work/asked" 4<"$work/done"
	read -r _ <&4
}

# bpf on|off
bpf() {
	echo "$1" >&3
	read -r _ <&4 # fails when the driver has ended
}

stop_bpf() {
	exec 3>&- 4<&-
	wait $bpf_driver
}

# ---- measurements ----

# transfer CASE: one, with instructions of all that runs meanwhile where the processor counts them.
transfer() {
	result=$(in_near perf stat --all-cpus -x, --event instructions:uk --output "$work/counted" \
		"$BENCH/tap-stream" send $address 7001 "$BYTES")
	instructions=$(awk -F, '$1 ~ /^[0-9]+$/ { print "instructions=" $1 }' "$work/counted")
	echo "$1 $variant $result $instructions"
}

# ask CASE PORT: questions over UDP, one after the other.
ask() {
	result=$(in_near "$BENCH/tap-datagram" ask $address "$2" "$COUNT")
	echo "$1 $variant $result"
}

# fetch SCHEME: with curl from nginx.
fetch() {
	result=$(in_near curl --silent --fail --insecure --output /dev/null \
		--write-out '%{size_download} %{time_total}' "$1://$address/file")
	echo "$1 $variant $result" | awk '{ printf "%s %s bytes=%d ns=%d\n", $1, $2, $3, $4 * 1e9 }'
}

# Where time is counted, a processor that has nothing to do waits by the machine's clock, and late
# when the machine is busy. So there it has something to do.
shaped() {
	idle=
	[ -z "$COUNTED" ] || { chrt --idle 0 sh -c 'while :; do :; done' & idle=$!; }
	in_near tc qdisc add dev veth0 root tbf rate 1gbit burst 128k limit 4m
	transfer shaped
	in_near tc qdisc delete dev veth0 root
	[ -z "$idle" ] || kill $idle
}

streams() {
	for variant in bare unmatched tag-1000 tag-65280 xor; do
		use $variant
		serve 7001 "$BENCH/tap-stream" receive 7001
		transfer bulk
		result=$(in_near "$BENCH/tap-stream" close $address 7001 "$COUNT")
		echo "connect $variant $result"
		shaped
		stop
	done
}

datagrams() {
	for variant in bare unmatched; do
		use $variant
		serve 7002 "$BENCH/tap-datagram" answer 7002
		ask udp 7002
		stop
	done
}

names() {
	for variant in bare kmod bpf; do
		use $variant
		[ $variant != bpf ] || bpf on
		serve 53 dnsmasq --keep-in-foreground --conf-file=/dev/null --user=root --pid-file= \
			--no-resolv --no-hosts --address=/bench.example/10.45.0.3
		ask dns 53
		stop
		[ $variant != bpf ] || bpf off
	done
}

make_site() {
	head -c "$BYTES" /dev/urandom >"$work/file"
	openssl req -x509 -nodes -days 2 -newkey ec -pkeyopt ec_paramgen_curve:P-256 \
		-subj /CN=l45-bench -keyout "$work/key" -out "$work/certificate" 2>>"$work/openssl.log"
	cat >"$work/nginx.conf" <<-END
		daemon off;
		master_process off;
		pid $work/nginx.pid;
		error_log stderr;
		events {}
		http {
			access_log off;
			sendfile on;
			client_body_temp_path $work/client;
			proxy_temp_path $work/proxy;
			fastcgi_temp_path $work/fastcgi;
			uwsgi_temp_path $work/uwsgi;
			scgi_temp_path $work/scgi;
			server {
				listen 80;
				listen 443 ssl;
				ssl_protocols TLSv1.3;
				ssl_certificate $work/certificate;
				ssl_certificate_key $work/key;
				root $work;
			}
		}
	END
}

programs() {
	for variant in bare unmatched tag-1000 tag-65280; do
		use $variant
		serve 443 nginx -c "$work/nginx.conf"
		fetch http
		fetch https
		stop
	done
}

# Bytes of all objects in the kernel's caches.
memory() {
	for cache in /sys/kernel/slab/*/shrink; do
		echo 1 >"$cache"
	done
	awk 'NR > 2 { bytes += $2 * $4 } END { printf "%d", bytes }' /proc/slabinfo
}

# Both ends of each connection are here.
at_rest() {
	for variant in bare unmatched tag-1000; do
		use $variant
		serve 7003 "$BENCH/tap-stream" hold 7003
		sleep 1
		before=$(memory)
		start ip netns exec $near "$BENCH/tap-stream" open $address 7003 1000
		until grep -q open "$work/server.log"; do sleep 0.2; done
		sleep 1
		echo "memory $variant sockets=2000 before=$before after=$(memory)"
		stop
		: >"$work/server.log"
	done
}

# Where a processor spends its time while a stream is customized.
profile() {
	use tag-1000
	serve 7001 "$BENCH/tap-stream" receive 7001
	in_near perf record --quiet --event cpu-clock --freq "$SAMPLES" --all-cpus --output "$work/perf" \
		"$BENCH/tap-stream" send $address 7001 "$BYTES" >"$work/profiled.log"
	perf report --input "$work/perf" --stdio --sort symbol 2>>"$work/perf.log" |
		sed -n '/%/{ s/ *-  *- *$//; s/ *$//; p }' | head -20 >"$RESULTS/tap-profile.txt"
	stop
}

make_network
trap clean_up EXIT
make_site
start_bpf
variant=bare # what runs for the first time is read from the disk
serve 7001 "$BENCH/tap-stream" receive 7001
serve 443 nginx -c "$work/nginx.conf"
transfer warm
fetch http >"$work/warm.log"
stop
for _ in $(seq "$ROUNDS"); do
	for case in $CASES; do
		$case
	done
done
profile
stop_bpf
