# curl and nginx, HTTP and HTTPS: what arrives is what was there, with both ends customized, and
# stands on the wire in its wire form; socat beside them is plain.
. tests/vm/programs_net.sh
. tests/vm/programs_nginx.sh

CURL="curl --silent --show-error --fail --cacert $W/certificate --max-time 120"

download() { # URL FILE OPTION...
	url=$1 file=$2
	shift 2
	client $CURL "$@" -o $W/got "$url/$file"
	same $W/got "$W/files/$file"
}

upload() { # URL PLACE OPTION...: a file in $W/sent
	url=$1 place=$2
	shift 2
	rm -f $W/files/upload/*
	client $CURL "$@" "$url/$place/sent"
	same $W/sent $W/files/upload/sent
}

transfers() { # URL FILE OPTION...
	url=$1
	file=$2
	shift 2
	download "$url" "$file" "$@"
	upload "$url" upload -T $W/sent "$@"
	upload "$url" post --data-binary @$W/sent "$@"
	keep_alive "$url" "$@"
	parallel "$url" "$@"
}

keep_alive() { # URL OPTION...
	url=$1
	shift
	client $CURL "$@" -w '%{stderr}%{num_connects}\n' -o $W/got "$url/small?[1-40]" 2>$W/connects
	holds "40 answers by one connection" [ "$(awk '{ n += $1 } END { print NR, n }' $W/connects)" = "40 1" ]
	same $W/got $W/files/small
}

parallel() { # URL OPTION...
	url=$1
	shift
	mkdir $W/all
	client $CURL "$@" --no-progress-meter --parallel --parallel-immediate --parallel-max 40 \
		-o "$W/all/#1" "$url/middle?[1-100]"
	holds "100 answers, 40 at a time" [ "$(ls $W/all | wc -l)" = 100 ]
	sha256sum $W/all/* $W/files/middle | cut -d ' ' -f 1 | sort -u >$W/hashes
	holds "they are all the same" [ "$(wc -l <$W/hashes)" = 1 ]
	rm -r $W/all
}

tls_1_3() {
	client $CURL -v -o $W/got https://10.0.0.2:8443/small 2>$W/said
	holds "TLS 1.3" grep -q "SSL connection using TLSv1.3" $W/said
}

# curl's wire form, and beside it socat's plain text from and to the same server. Numbers of seven
# digits are what is plain in these files. (nginx gives up on who ends its half of a connection.)
wire_form() { # PATTERN of curl's
	capture $W/capture
	download http://10.0.0.2:8080 middle
	printf 'GET /middle HTTP/1.0\r\n\r\n' |
		client socat -t 20 - TCP:10.0.0.2:8080,sourceport=4000,shut-none >$W/answer
	captured
	tail -c "$(wc -c <$W/files/middle)" $W/answer >$W/got
	same $W/got $W/files/middle
	holds "socat's is plain" [ "$(in_capture $W/capture 'port 4000' '^[12][0-9]{6}$')" -gt 10000 ]
	holds "socat's is not customized" [ "$(in_capture $W/capture 'port 4000' 'L45|STAG')" = 0 ]
	holds "curl's is customized" [ "$(in_capture $W/capture 'not port 4000' "$1")" -gt 0 ]
}

network_begin
mkdir $W/files
seq 1000000 1000500 >$W/files/small
seq 1000000 1015000 >$W/files/middle
seq 1000000 3600000 >$W/files/big # 20 MB
head -c 2000000 /dev/urandom >$W/sent
nginx_begin

echo "== stream_tag, by process name and by port"
customize client $TAG process=curl
customize server $TAG local_port=8080-8443
wire_form STAG
transfers http://10.0.0.2:8080 big
transfers https://10.0.0.2:8443 big
tls_1_3
both_counted stream_tag
plain_again

echo "== stream_xor, by user and by executable, IPv6; nginx is its own client, too"
customize client $XOR uid=0 remote=fd00::/64
customize server $XOR executable=/usr/sbin/nginx
transfers http://server:8080 middle --resolve server:8080:fd00::2
download https://server:8443 middle --resolve server:8443:fd00::2
both_counted stream_xor
plain_again
customize client $XOR executable=/usr/bin/curl
customize server $XOR uid=65534 # nobody, who is nginx's workers
wire_form L45.N
holds "curl's is not plain" [ "$(in_capture $W/capture 'not port 4000' '^[12][0-9]{6}$')" = 0 ]
both_counted stream_xor
plain_again

network_end
