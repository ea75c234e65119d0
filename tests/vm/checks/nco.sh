# An NCO deploys stream_tag on two hosts with the kernel tap, challenges, rotates and deprecates it, and
# takes it away again.
.venv/bin/python -m tests.vm.nco_check
rmmod l45
