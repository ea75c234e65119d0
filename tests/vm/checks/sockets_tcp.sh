# What applications may rely on with TCP (tests/vm/programs/sockets.c), both ends customized by
# stream_tag, which keeps the application's bytes where they are.
insmod /run/vm/l45.ko
insmod /run/vm/l45_stream_tag.ko
# A tag (1) before every 1000 bytes.
"$PROGRAMS/l45-set" apply code=l45_stream_tag protocol=tcp process=sockets epoch=1 \
	token=0102030405060708 parameters=0100000000000000e8030000
for family in 4 6 dual; do
	"$PROGRAMS/sockets" --family $family --customized --patience 60 tcp
done
"$PROGRAMS/l45-set" list | grep 'counters.sent=[1-9].* counters.received=[1-9]'
"$PROGRAMS/l45-set" none drain=0
rmmod l45_stream_tag
rmmod l45
