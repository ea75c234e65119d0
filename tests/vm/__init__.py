"""Tests inside Debian's kernels: `make test-vm`.

For each kernel QEMU boots once, with this machine's file system read-only over 9p and an overlay
in the guest's memory, so that whatever the guest does is gone with it. A folder shared with the
guest takes the results out. In there `guest.sh` runs every file of `checks/`, one after the other;
each is a test here, and so is the kernel's log.

To add a check, add a file `checks/NAME.sh`: it runs under `sh -eu` as root in the repository's
folder, passes by ending with 0, and finds in /run/vm what the fixture `guest` put there. Python is
some 15 times slower in a guest without KVM, C and the shell are usable.

    make test-vm                                    # all
    .venv/bin/pytest tests/vm -k 6.12               # one kernel, where everything is installed
"""
