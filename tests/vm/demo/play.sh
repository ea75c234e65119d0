# The demonstration as it is played in the guest; __main__.py boots it, and looks at what is left in
# /run/vm: captures, and the throughput of two downloads.
. tests/vm/programs_net.sh
. tests/vm/programs_nginx.sh

CURL="curl --silent --show-error --fail --cacert $W/certificate --max-time 120"
TRANSFER='%{size_download} bytes in %{time_total} s\n'
LIMIT="code=l45_rate_limit protocol=tcp process=nginx parameters=64000000" # 100 ms

step() { printf '\n-- %s\n' "$*"; }

show() {
	printf '$ %s\n' "$*"
	"$@"
}

# curl, which is customized, after socat, which is not: in one capture.
download() { # URL CAPTURE
	capture "/run/vm/$2.pcap" -c 160
	if [ "$2" = http ]; then
		printf 'GET /page HTTP/1.0\r\n\r\n' |
			client socat -t 20 - TCP:10.0.0.2:8080,sourceport=4000,shut-none >$W/page
	fi
	fetch $W/got "$1"
	captured
}

fetch() { # FILE URL
	printf '$ client curl %s\n' "$2"
	client $CURL -v -o "$1" -w "$TRANSFER" "$2" 2>$W/said
	grep -o 'SSL connection using.*' $W/said || true
	sha256sum "$1" $W/files/big
	same "$1" $W/files/big
}

size_of() { stat -c %s "$1" 2>/dev/null || echo 0; }

sample() { # until $W/stop: seconds, and bytes of each download
	while [ ! -e $W/stop ]; do
		read -r now _ </proc/uptime
		echo "$now $(size_of $W/old) $(size_of $W/new)"
		sleep 0.5
	done
}

step "Two hosts in $(uname -r): network namespaces, joined by veth; nginx on the server"
network_begin
insmod /run/vm/l45_rate_limit.ko
mkdir $W/files
echo "a page of nginx" >$W/files/page
head -c 104857600 /dev/urandom >$W/files/big
nginx_begin
show client ip -brief address show dev eth0
show server ip -brief address show dev eth0

step "stream_tag: curl on the client, nginx on the server; tag 42, every 1000 bytes"
show customize server $TAG executable=/usr/sbin/nginx
show customize client $TAG process=curl

step "100 MB over HTTP; socat, which nobody customized, asks the same server before"
download http://10.0.0.2:8080/big http
step "100 MB over HTTPS"
download https://10.0.0.2:8443/big https
holds "TLS 1.3" grep -q "SSL connection using TLSv1.3" $W/said
step "What the taps counted"
for host in client server; do
	ip netns exec $host l45-set list | tr ' ' '\n' |
		sed -n "s/^module=/$host: /p; s/^counters\\.\\([sr][a-z_]*\\)=/    \\1 /p"
done
both_counted stream_tag
plain_again

step "rate_limit: each send of nginx waits 100 ms; a download begins"
show customize server $LIMIT
sample >/run/vm/throughput &
sampling=$!
ip netns exec client $CURL --max-time 300 -o $W/old http://10.0.0.2:8080/big &
downloading=$!
sleep 8
step "rate_limit is deprecated: the old connection keeps it, and a new one does not get it"
show customize server $LIMIT flags=send,receive,deprecated
read -r now _ </proc/uptime
echo "$now" >/run/vm/deprecated
fetch $W/new http://10.0.0.2:8080/big
sleep 4
touch $W/stop
wait $sampling
holds "the old download is not over" kill $downloading
wait $downloading || true
plain_again
network_end
