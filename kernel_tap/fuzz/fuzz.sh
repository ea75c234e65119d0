#!/bin/sh
# Fuzzes every target in turn, so many seconds in all: fuzz.sh BIN SECONDS FOLDER
# What it finds is kept in FOLDER and gone on from the next time.
set -eu

bin=$1 seconds=$2 folder=$3
corpus=$(dirname "$0")/corpus
targets=$(make -s -C "$(dirname "$0")" list)
failed=0

# A target's part of the time: what has states needs more.
weight() {
	case $1 in
	receive | stream) echo 4 ;;
	match | wire) echo 1 ;;
	*) echo 2 ;;
	esac
}

weights=0
for target in $targets; do
	weights=$((weights + $(weight "$target")))
done

# What the sanitizer or the oracle said, and how to see it again.
report() {
	sed -n '/not so:\|ERROR:\|runtime error:/,$p' "$2" | head -60 >&2
	for input in "$folder/crashes/$1"-*; do
		[ -e "$input" ] || continue
		echo "fuzz: $1 fails; repeat with  $bin/$1 $input" >&2
		echo "fuzz: once it is mended, keep the input as kernel_tap/fuzz/corpus/$1/kept-..." >&2
	done
}

run() {
	mkdir -p "$folder/finds/$1" "$folder/crashes" "$folder/log" "$corpus/$1"
	log=$folder/log/$1.log
	status=0
	"$bin/$1" -max_total_time="$2" -max_len=4096 -timeout=10 -print_final_stats=1 \
		-artifact_prefix="$folder/crashes/$1-" "$folder/finds/$1" "$corpus/$1" \
		>"$log" 2>&1 || status=$?
	if [ "$status" = 72 ]; then # libFuzzer's for "interrupted"
		echo "fuzz: stopped in $1; what was found is kept in $folder"
		exit 0
	elif [ "$status" != 0 ]; then
		failed=1
		report "$1" "$log"
	else
		sed -n "s/^Done \(.*\)/fuzz: $1: \1/p" "$log"
	fi
}

trap : INT # the target is told too, and says so
for target in $targets; do
	run "$target" $((1 + seconds * $(weight "$target") / weights))
done
exit $failed
