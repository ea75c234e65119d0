# The kernel's verifier takes the eBPF modules, and between two namespaces they do to datagrams what
# their vectors say; dig gets its answer from dnsmasq. Of the system tests these are what depends
# most on the kernel; all of them would take long, and so would loading plugins that they do not use.
.venv/bin/pytest -p no:hypothesispytest -p no:anyio --timeout=250 -k '(vectors or as-ever) and not no-offload' \
	tests/system/bpf/test_bpf_messages.py tests/system/bpf/test_bpf_dns_compress.py
