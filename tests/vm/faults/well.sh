# Nothing of what the check before left behind is there any more.
left=$(
	grep ^l45 /proc/modules
	ip netns list
	ip -brief link show type veth
	cat /proc/[0-9]*/cmdline | tr '\0' ' ' | grep -o 'sleep 100.'
) || true # the last grep finds nothing
echo "$left"
[ -z "$left" ]
