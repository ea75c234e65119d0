# Nothing of what the check before left behind is there any more.
! grep ^l45 /proc/modules
! ip netns list | grep l45
! cat /proc/[0-9]*/cmdline | tr '\0' ' ' | grep 'sleep 100'
