# What applications may rely on with UDP, half of the datagrams customized by dns_app_tag; then with
# nothing in force.
insmod /run/vm/l45.ko
insmod /run/vm/l45_dns_app_tag.ko
"$PROGRAMS/l45-set" apply code=l45_dns_app_tag protocol=udp process=sockets
for family in 4 6 dual; do
	"$PROGRAMS/sockets" --family $family --customized --patience 60 udp
done
"$PROGRAMS/l45-set" list | grep 'counters.sent=[1-9].* counters.received=[1-9]'
"$PROGRAMS/l45-set" none
"$PROGRAMS/sockets" --family dual --patience 60 udp
rmmod l45_dns_app_tag
rmmod l45
