# The tap's generic netlink: what is wrong is refused with its reason, also when it is wrong at
# random (tests/vm/programs/netlink_fuzz.c). The kernel says in its log what it finds in messages.
for name in l45 l45_stream_tag l45_stream_xor l45_rate_limit l45_dns_app_tag; do
	insmod "/run/vm/$name.ko"
done
"$PROGRAMS/netlink_fuzz" --list-bad
"$PROGRAMS/netlink_fuzz" "${FUZZ_SECONDS:-20}" "${SEED:-1}"
"$PROGRAMS/l45-set" info
rmmod l45_stream_tag l45_stream_xor l45_rate_limit l45_dns_app_tag
rmmod l45
