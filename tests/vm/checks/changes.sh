# Sets that change under open connections, what the tap tells of them, and hostile peers
# (tests/vm/programs/changes.h).
for name in l45 l45_stream_tag l45_stream_xor l45_rate_limit l45_dns_app_tag; do
	insmod "/run/vm/$name.ko"
done
for family in 4 6 dual; do
	"$PROGRAMS/changes" --family $family --customized --patience 60 all
done
rmmod l45_stream_tag l45_stream_xor l45_rate_limit l45_dns_app_tag
rmmod l45
