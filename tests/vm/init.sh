#!/bin/busybox sh
# The guest's first program: makes its root and goes there. A failure ends it, and thus the guest.
set -eu

PATH=/bin
/bin/busybox --install -s /bin
for module in /modules/*; do
	[ ! -e "$module" ] || insmod "$module" # there is none where all are built in
done

# `loose`: what somebody changes on the machine meanwhile may not be seen here.
mkdir /machine /memory /new
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=262144,cache=loose machine /machine
mount -t tmpfs memory /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/machine,upperdir=/memory/upper,workdir=/memory/work overlay /new

mount -t proc proc /new/proc
mount -t sysfs sysfs /new/sys
mount -t devtmpfs devtmpfs /new/dev
mount -t tmpfs tmpfs /new/run
# The repository may be below the machine's /tmp: machine.py's start script puts it back there.
mkdir /new/run/machine-tmp
mount -o bind /new/tmp /new/run/machine-tmp
mount -t tmpfs tmpfs /new/tmp
mkdir /new/run/vm
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 results /new/run/vm
exec switch_root /new /bin/sh /run/vm/start
