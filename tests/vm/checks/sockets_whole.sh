# The same with stream_xor, which changes every byte, so that frames are decoded whole; and, with
# nothing in force, sockets that the tap has looked at once.
insmod /run/vm/l45.ko
insmod /run/vm/l45_stream_xor.ko
"$PROGRAMS/l45-set" apply code=l45_stream_xor protocol=tcp process=sockets epoch=1 \
	token=0102030405060708 parameters=a55a0ff1
for family in 4 dual; do
	"$PROGRAMS/sockets" --family $family --customized --patience 60 tcp
done
"$PROGRAMS/l45-set" list | grep 'counters.sent=[1-9].* counters.received=[1-9]'
"$PROGRAMS/l45-set" none drain=0
"$PROGRAMS/sockets" --family dual --patience 60 tcp
rmmod l45_stream_xor
rmmod l45
