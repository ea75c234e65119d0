# The tap is unloaded and loaded again five times below servers that serve: nginx waits in epoll,
# dnsmasq in poll, and a socat in select for a connection that lasts. No request fails
# meanwhile, and after each time sockets that were open before are customized again.
. tests/vm/programs_net.sh
. tests/vm/programs_nginx.sh

# Who receives is told before who sends, and the reverse.
set_up() {
	customize server $TAG local_port=8080 -- $APP local_port=53
	customize client $TAG process=curl -- $APP process=dig
}

tear_down() {
	for name in client server; do
		ip netns exec $name l45-set none drain=60000 >/dev/null
		until_holds "$name has no customization" none_left_on $name
	done
	unload
	holds "the tap is unloaded" [ ! -e /sys/module/l45 ]
}

# Requests without a pause, one after the other, until $W/stop; each that fails leaves a line.
requests() {
	while [ ! -e $W/stop ]; do
		fetch || echo "a fetch failed" >>$W/failed
		query || echo "a query failed" >>$W/failed
		echo >>$W/asked
	done
}

fetch() {
	client curl -sSf --max-time 60 -o $W/got http://10.0.0.2:8080/file && cmp $W/got $W/files/file
}

query() {
	[ "$(client dig @10.0.0.2 +short +tries=1 +time=20 host.example A)" = 10.9.8.7 ]
}

some_requests() {
	enough=$(($(wc -l <$W/asked) + 2))
	for _ in $(seq 600); do
		[ "$(wc -l <$W/asked)" -lt $enough ] || return 0
		sleep 0.1
	done
	holds "requests go on" false
}

# A line by the connection that lasts, and back.
echoed() { # LINE
	echo "$1" >&3
	until_holds "the connection that lasts brings back $1" grep -qx "$1" $W/echoed
}

network_begin
mkdir $W/files
seq 1000000 1050000 >$W/files/file
nginx_begin
serve udp 53 dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --user=root \
	--pid-file= --address=/host.example/10.9.8.7
serve tcp 7001 socat TCP-LISTEN:7001 EXEC:cat
mkfifo $W/lines
ip netns exec client socat - TCP:10.0.0.2:7001 <$W/lines >$W/echoed &
servers="$servers $!"
exec 3>$W/lines
: >$W/asked
: >$W/failed
set_up
requests &
asking=$!

for round in 1 2 3 4 5; do
	echoed "before $round"
	some_requests
	both_counted stream_tag
	holds "dns_app_tag works" [ "$(counted server dns_app_tag received)" -gt 0 ]
	tear_down
	echoed "between $round"
	some_requests
	load
	set_up
done
some_requests
both_counted stream_tag
touch $W/stop
wait $asking
holds "no request failed of $(wc -l <$W/asked)" [ ! -s $W/failed ]
exec 3>&-
plain_again
network_end
