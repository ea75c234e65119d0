#!/bin/sh
# The guest's first process on its root: runs every check, and ends the guest. In /run/vm stay, for
# each check, NAME.out (what it said) and NAME.code (how it ended).
set -u

check_seconds=$1
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
ip link set lo up

echo "l45-vm: checks begin" >/dev/kmsg
for check in tests/vm/checks/*.sh; do
	name=$(basename "$check" .sh)
	echo "l45-vm: check $name" >/dev/kmsg
	timeout --kill-after=5 "$check_seconds" sh -eu "$check" >"/run/vm/$name.out" 2>&1
	echo $? >"/run/vm/$name.code"
done
echo "l45-vm: checks end" >/dev/kmsg
busybox reboot -f
