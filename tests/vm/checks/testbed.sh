# The testbed's taps (mininet_topos/taps.py): both are in the kernel while it runs, none afterwards.
# Building l45.ko here would take minutes: this make has it built already.
mkdir /tmp/bin
cat >/tmp/bin/make <<END
#!/bin/sh
mkdir -p build/kmod/$(uname -r)/kmod
cp /run/vm/l45.ko build/kmod/$(uname -r)/kmod/
END
chmod +x /tmp/bin/make
PATH=/tmp/bin:$PATH .venv/bin/python - <<END
from pathlib import Path

from host_agent import bpf_tap, kmod_tap
from mininet_topos import taps

run, log = Path("/run/l45-testbed"), Path("/tmp/l45.ko.log")
for before in (False, True):
    if before:
        kmod_tap.install(run)
    with taps.loaded(run, log) as choice:
        assert choice == "auto", taps.without_kmod(log)
        assert kmod_tap.installed() and bpf_tap.installed(run)
    assert (kmod_tap.installed(), bpf_tap.installed(run)) == (before, False)
kmod_tap.uninstall(run)
END
