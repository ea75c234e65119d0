# The agent drives l45.ko: by its driver, in one process (python is slow here), then by command, beside
# the eBPF tap.
.venv/bin/python -m tests.vm.dca_check
.venv/bin/dca tap load --kmod /run/vm/l45.ko | grep -c "is loaded now" | grep -qx 2
.venv/bin/dca tap status | grep "^The kmod tap is loaded"
.venv/bin/dca tap unload
! grep ^l45 /proc/modules
