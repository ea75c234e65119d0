# The agent drives l45.ko: by its driver, in one process (python is slow here), then by command.
.venv/bin/python -m tests.vm.dca_check
.venv/bin/dca tap load --tap kmod --kmod /run/vm/l45.ko
.venv/bin/dca tap status --tap kmod
.venv/bin/dca tap unload --tap kmod
! grep ^l45 /proc/modules
