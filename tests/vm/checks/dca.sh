# The agent drives l45.ko: by its driver, in one process (python is slow here), then by command, beside
# the eBPF tap, which goes into this kernel and out of it, and leaves no program behind.
.venv/bin/python -m tests.vm.dca_check
.venv/bin/dca tap load --kmod /run/vm/l45.ko | grep -c "is loaded now" | grep -qx 2
.venv/bin/dca tap status | grep "^The kmod tap is loaded"
bpftool prog show | grep -q 'name l45'
.venv/bin/dca tap unload
! grep ^l45 /proc/modules || exit 1
for _ in 1 2 3 4 5 6 7 8 9 10; do # the kernel frees them some time after their last user has gone
	bpftool prog show | grep 'name l45' || exit 0
	sleep 1
done
exit 1
