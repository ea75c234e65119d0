# The eBPF tap goes into this kernel and out of it, and leaves no program behind.
.venv/bin/dca tap load --tap bpf
.venv/bin/dca tap status --tap bpf
bpftool prog show | grep -q 'name l45'
.venv/bin/dca tap unload --tap bpf
for _ in 1 2 3 4 5 6 7 8 9 10; do # the kernel frees them some time after their last user has gone
	bpftool prog show | grep 'name l45' || exit 0
	sleep 1
done
exit 1
