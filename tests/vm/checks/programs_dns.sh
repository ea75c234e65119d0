# dig and dnsmasq: dns_app_tag and dns_compress on UDP, stream_tag on TCP, and several of them on one
# flow, where the lowest priority number acts.
. tests/vm/programs_net.sh

ask() { # SERVER OPTION...
	at=$1
	shift
	answer=$(client dig "@$at" +short +tries=1 +time=10 "$@" host.example A) || true
	holds "dig @$at $* has its answer" [ "$answer" = 10.9.8.7 ]
}

# Ask, while what passes is captured into $W/capture.
ask_in_sight() {
	capture $W/capture
	ask "$@"
	captured
}

on_wire() { # PATTERN: stands in the query on UDP
	holds "$1 is on the wire" [ "$(in_capture $W/capture 'udp and dst port 53' "$1")" -gt 0 ]
}

not_on_wire() { # PATTERN
	holds "$1 is not on the wire" [ "$(in_capture $W/capture 'port 53' "$1")" = 0 ]
}

network_begin
serve udp 53 dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --user=root \
	--pid-file= --address=/host.example/10.9.8.7

echo "== dns_app_tag, by process and by port"
customize client $APP process=dig remote_port=53
customize server $APP local_port=53
ask_in_sight 10.0.0.2
on_wire 'XTAGdig'
ask_in_sight fd00::2
on_wire 'XTAGdig'
holds "the client sent two" [ "$(counted client dns_app_tag sent)" = 2 ]
holds "the server received two" [ "$(counted server dns_app_tag received)" = 2 ]
capture $W/capture # another program beside dig
client $PWD/.venv/bin/python -c 'import dns.resolver as r; x = r.Resolver(configure=False); \
x.nameservers = ["10.0.0.2"]; x.lifetime = 60; print(x.resolve("host.example")[0])'
captured
not_on_wire XTAG
plain_again

echo "== dns_compress, by prefix and by executable"
# EDNS asks for what a compressed query has not.
customize client $COMPRESS executable=/usr/bin/dig remote=10.0.0.0/24
customize server $COMPRESS executable=/usr/sbin/dnsmasq
ask_in_sight 10.0.0.2 +noedns
on_wire DNSC
ask_in_sight fd00::2 +noedns
not_on_wire DNSC
holds "the client sent one" [ "$(counted client dns_compress sent)" = 1 ]
holds "the server received one" [ "$(counted server dns_compress received)" = 1 ]

plain_again

echo "== by thread: dig asks from one of its threads, which have names of their own"
customize server $APP local_port=53
customize client $APP thread=dig
ask_in_sight 10.0.0.2
not_on_wire XTAG
customize client $APP id=000000000000000000000000000000f1 thread=isc-net-0000 process=dig -- \
	$APP id=000000000000000000000000000000f2 thread=isc-net-0001 process=dig
ask_in_sight fd00::2
on_wire XTAGdig
plain_again

echo "== several"
first="id=000000000000000000000000000000f1 priority=10" second="id=000000000000000000000000000000f2 priority=20"
third="id=000000000000000000000000000000f3 priority=30"
customize server $APP $first local_port=53 -- $COMPRESS $second local_port=53 -- $TAG $third local_port=53
customize client $COMPRESS $first process=dig -- $APP $second process=dig -- $TAG $third process=dig
ask_in_sight 10.0.0.2
on_wire DNSC
not_on_wire XTAG
customize client $COMPRESS $first process=dig flags=inactive,send,receive -- $APP $second process=dig -- \
	$TAG $third process=dig
ask_in_sight fd00::2
on_wire XTAGdig
not_on_wire DNSC
ask_in_sight 10.0.0.2 +tcp
holds "STAG is on the wire" [ "$(in_capture $W/capture 'tcp and dst port 53' STAG)" -gt 0 ]
ask_in_sight fd00::2 +tcp
both_counted stream_tag
plain_again
ask_in_sight 10.0.0.2
not_on_wire 'XTAG|DNSC|STAG'
network_end
