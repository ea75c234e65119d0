# scp, iperf3 and socat with both ends customized: IPv4, IPv6, and IPv4 at a dual-stack socket.
. tests/vm/programs_net.sh

sshd_begin() {
	mkdir -p /run/sshd
	ssh-keygen -q -t ed25519 -N '' -f $W/host_key
	ssh-keygen -q -t ed25519 -N '' -f $W/user_key
	cat >$W/sshd_config <<-END
		Port 2222
		HostKey $W/host_key
		AuthorizedKeysFile $W/user_key.pub
		PidFile none
		StrictModes no
		UsePAM no
		Subsystem sftp internal-sftp
	END
	serve tcp 2222 /usr/sbin/sshd -D -f $W/sshd_config
}

SCP="scp -q -P 2222 -i $W/user_key -o BatchMode=yes -o StrictHostKeyChecking=no
	-o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"

both_ways() { # HOST
	client $SCP $W/data "root@$1:$W/there"
	same $W/there $W/data
	client $SCP "root@$1:$W/data" $W/here
	same $W/here $W/data
	rm $W/there $W/here
}

# sshd speaks first, so its direction stays plain.
scp_both_ways() {
	customize client $TAG process=ssh
	customize server $TAG process=sshd
	both_ways 10.0.0.2
	both_ways '[fd00::2]'
	holds "client: stream_tag has sent" [ "$(counted client stream_tag sent)" -gt 200 ]
	holds "server: stream_tag has received" [ "$(counted server stream_tag received)" -gt 200 ]
	holds "no errors" [ "$(counted client stream_tag errors)$(counted server stream_tag errors)" = 00 ]
	plain_again
}

bulk() { # HOST OPTION...
	to=$1
	shift
	client iperf3 -c "$to" -J "$@" >$W/report || {
		cat $W/report
		exit 1
	}
	holds "iperf3 $to $* received something" \
		awk '/"sum_received"/ { sum = 1 } sum && /"bytes":/ { exit !($2 + 0 > 100000) }' $W/report
}

iperf3_all_ways() {
	customize client $TAG process=iperf3 -- $APP remote_port=53
	customize server $TAG local_port=5201 -- $APP local_port=53
	serve tcp 5201 iperf3 -s >/dev/null
	bulk 10.0.0.2 -t 1
	bulk 10.0.0.2 -t 1 -R
	bulk fd00::2 -t 1 -P 4
	bulk fd00::2 -t 1 --bidir
	both_counted stream_tag
	bulk 10.0.0.2 -t 1 -u -b 50M
	bulk fd00::2 -t 1 -u -b 50M -R
	holds "dns_app_tag matched nothing" [ "$(counted client dns_app_tag sent)" = 0 ]
	servers_end
	plain_again
}

hash_there() { # ADDRESS: a server that answers when its input ends
	client socat -t 60 - "$1" <$W/data >$W/answer
	holds "the whole of it arrived at $1" grep -q "$(sha256sum <$W/data)" $W/answer
}

# To a server that hashes (its answer needs the end of input), one that sends back, and one that
# only sends. The dual-stack server is matched by its IPv4 prefix alone.
socat_ends() { # CODE CUSTOMIZATION...
	code=$1
	shift
	customize client "$@" process=socat
	customize server "$@" local=10.0.0.0/24 -- "$@" id=00000000000000000000000000000002 local=fd00::/64
	hash_there TCP4:10.0.0.2:7001
	hash_there TCP6:[fd00::2]:7001
	client socat -t 60 - TCP:10.0.0.2:7002 <$W/data >$W/answer
	same $W/answer $W/data
	client socat -t 60 -u OPEN:$W/data TCP:10.0.0.2:7003
	until_holds "$W/stored is what was sent" cmp -s $W/stored $W/data
	rm $W/stored
	both_counted "$code"
	plain_again
}

network_begin
head -c 3000000 /dev/urandom >$W/data
sshd_begin
scp_both_ways
iperf3_all_ways
serve tcp 7001 socat TCP6-LISTEN:7001,ipv6-v6only=0,fork,reuseaddr EXEC:sha256sum
serve tcp 7002 socat TCP4-LISTEN:7002,fork,reuseaddr EXEC:cat
serve tcp 7003 socat -u TCP4-LISTEN:7003,fork,reuseaddr CREATE:$W/stored
socat_ends stream_tag $TAG
socat_ends stream_xor $XOR
network_end
