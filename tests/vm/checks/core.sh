# The stream core works inside the kernel (kernel_tap/kmod/core_test.c), and is gone when told to.
insmod /run/vm/l45_core_test.ko
dmesg | grep 'l45_core_test: passed'
rmmod l45_core_test
! grep l45_core_test /proc/modules
