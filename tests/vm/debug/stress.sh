# Stress the tap for STRESS_SECONDS, then fuzz how it is driven for FUZZ_SECONDS, or as long;
# `make stress-vm` runs this in the debug kernel, where guest.sh has kmemleak scan once the modules are
# gone. STRESS_SEED repeats what a run with that seed tried, though not when.
seed=${STRESS_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}

insmod /run/vm/l45.ko
for module in /run/vm/l45_*.ko; do
	insmod "$module"
done

echo "stress-vm: kernel=$(uname -r) seconds=$STRESS_SECONDS seed=$seed"
failed=0
run() { # PROGRAM SECONDS
	begin=$(date +%s)
	"$PROGRAMS/$1" "$2" "$seed" || failed=1
	echo "stress-vm: $1 ended after $(($(date +%s) - begin)) s"
}
run stress "$STRESS_SECONDS"
run netlink_fuzz "${FUZZ_SECONDS:-$STRESS_SECONDS}"

grep '\[l45' /proc/kallsyms | sort >/run/symbols # for kmemleak's reports
"$PROGRAMS/l45-set" none drain=0
rmmod $(lsmod | awk '/^l45_/ { print $1 }') l45
# What netlink's own code says of the fuzzer's messages is no complaint.
said=$(dmesg --level=emerg,alert,crit,err,warn | grep -vc ' netlink: \|nla.* suppressed' || true)
echo "stress-vm: warnings and errors of the kernel: $said"
exit $failed
