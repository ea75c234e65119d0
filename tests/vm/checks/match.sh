# The same thousand pairs of a match and a socket as in the unit tests and in the system tests of the
# eBPF tap: it decides alike on this kernel, and so does l45.ko.
.venv/bin/python -m tests.vm.match_check
