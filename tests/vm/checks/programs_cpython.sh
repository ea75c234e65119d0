# CPython's own tests of TCP and UDP sockets end the same with every socket of theirs customized,
# at both ends, as without a tap.
. tests/vm/programs_net.sh

# In the client's namespace, on its loopback. The tests ask for protocols that are kernel modules
# (SCTP, Bluetooth), which would keep sockets of their own.
tests() { # NAME
	echo >/proc/sys/kernel/modprobe
	client /usr/bin/python3 tests/vm/programs_cpython.py >"$W/$1" 2>"$W/$1.said" ||
		echo "ended with $?" >>"$W/$1"
	echo /sbin/modprobe >/proc/sys/kernel/modprobe
}

same_with() { # CODE CUSTOMIZATION...
	code=$1
	shift
	customize client "$@" process=python3 -- $APP executable=/usr/bin/python3.11
	tests "$code"
	for each in "$code" dns_app_tag; do
		holds "$each has sent" [ "$(counted client $each sent)" -gt 50 ]
		holds "$each has received" [ "$(counted client $each received)" -gt 50 ]
	done
	plain_again
	cat "$W/$code.said"
	holds "with $code all tests end as without a tap" diff $W/plain "$W/$code"
}

mkdir $W
ip netns add client
ip -netns client link set lo up
tests plain
holds "the tests ran" [ "$(grep -c passed $W/plain)" -gt 300 ]
ip netns delete client

network_begin
same_with stream_tag $TAG
same_with stream_xor $XOR
network_end
