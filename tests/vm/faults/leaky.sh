# Leaves behind one of everything that leaks.sh knows, and makes the kernel complain.
sleep 1000 &
ip netns add l45-leak
unshare --net sleep 1001 &
ip link add l45-a type veth peer l45-b
insmod /run/vm/l45.ko
echo "<3>l45: not as it should be" >/dev/kmsg
echo "<4>WARNING: not as it should be" >/dev/kmsg

# A connection with data that nobody gets is closed by its end, and waits.
python3 - <<'END'
import socket, subprocess
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
subprocess.run("tc qdisc add dev lo root netem loss 100%".split(), check=True)
client.send(b"data")
END
exit 3
