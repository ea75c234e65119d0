#!/bin/sh
# Builds the debug kernel from Debian's source, with `config`, into a folder:
#   linux/  source and objects, against which modules are built
#   root/   its modules, as below /
# usage: build.sh FOLDER
set -eu

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
tarball=/usr/src/linux-source-6.12.tar.xz
linux=$folder/linux

if [ ! "$folder/unpacked" -nt "$tarball" ]; then
	rm -rf "$linux"
	mkdir "$linux"
	tar -xf "$tarball" -C "$linux" --strip-components=1
	touch "$folder/unpacked"
fi

cd "$linux"
make -s KCONFIG_ALLCONFIG="$here/config" allnoconfig
# A line without effect: a name that this source does not know, or something it needs is missing.
if grep '^CONFIG_\| is not set$' "$here/config" | grep -vxFf .config; then
	echo "build.sh: these lines of tests/vm/debug/config have no effect" >&2
	exit 1
fi
nice -n 19 make -s -j2 bzImage modules
rm -rf "$folder/root"
make -s INSTALL_MOD_PATH="$folder/root" modules_install
