# Connections come and go under sets that change, every byte is checked (tests/vm/programs/stress.h).
for name in l45 l45_stream_tag l45_stream_xor l45_rate_limit l45_dns_app_tag; do
	insmod "/run/vm/$name.ko"
done
"$PROGRAMS/stress" "${STRESS_SECONDS:-15}" "${SEED:-1}"
"$PROGRAMS/l45-set" list
rmmod l45_stream_tag l45_stream_xor l45_rate_limit l45_dns_app_tag
rmmod l45
