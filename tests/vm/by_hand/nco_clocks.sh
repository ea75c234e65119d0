# The clock of an NCO and two hosts jumps a day ahead and two back, with certificates of an hour:
# sessions and customizations go on, and who comes meanwhile is told why it must wait.
.venv/bin/python -m tests.vm.nco_check --clocks
rmmod l45
