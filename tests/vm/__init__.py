"""Tests inside kernels that QEMU boots: `make test-vm`; docs/vm.md says how they work.

To add a check, add a file `checks/NAME.sh`: it runs under `sh -eu` as root in the repository's
folder, passes by ending with 0 and leaving nothing behind, and finds the kernel modules in /run/vm
and the programs of `programs/` in $PROGRAMS.
"""
