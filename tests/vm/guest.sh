#!/bin/sh
# The guest's first process on its root: runs the checks named, one after the other, and ends the
# guest. Each comes from /run/vm/NAME.sh, and there stay NAME.out (what it said), NAME.leaks (what it
# left behind, a line for each; empty if nothing) and NAME.code (how it ended).
# usage: guest.sh SECONDS NAME...; KERNEL_MODULES is the folder of the kernel's modules.
set -u

check_seconds=$1
shift
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 PYTHONUNBUFFERED=1 PROGRAMS="$PWD/build/vm/programs"
export L45_BPF_OBJECTS="$PWD/build/vm/bpf" # tests/system/bpf/kit.py
. tests/vm/leaks.sh
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount -t debugfs debugfs /sys/kernel/debug
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
# A kernel that is not installed has its modules elsewhere.
[ -e "/lib/modules/$(uname -r)" ] || ln -s "$KERNEL_MODULES" /lib/modules/
ip link set lo up

echo "l45-vm: checks begin" >/dev/kmsg
for check in "$@"; do
	echo "l45-vm: check $check" >/dev/kmsg
	leaks_before
	timeout --kill-after=5 "$check_seconds" sh -eu "/run/vm/$check.sh" >"/run/vm/$check.out" 2>&1
	code=$?
	leaks_after >"/run/vm/$check.leaks"
	echo $code >"/run/vm/$check.code"
done
echo "l45-vm: checks end" >/dev/kmsg
busybox reboot -f
