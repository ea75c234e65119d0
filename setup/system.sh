#!/bin/sh
# Installs what is missing of a list of Debian packages (system-packages.txt). Needs root only then.
set -eu

list=${1:-$(dirname "$0")/system-packages.txt}
missing=""
for package in $(grep -v '^#' "$list"); do
	state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$state" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
	echo "setup: these packages are missing, and only root can install them:$missing" >&2
	echo "setup: run  sudo apt-get install --no-install-recommends$missing" >&2
	# Without root only lint and unit tests run; what they need beyond is said when it is used.
	exit 0
fi

# Packages start their servers (nginx, sshd, dnsmasq) unless a policy forbids it; tests start their own.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	trap 'exit 1' HUP INT TERM
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi

echo "setup: installing$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
# shellcheck disable=SC2086 # a list of words
apt-get install -q -y --no-install-recommends $missing
