#!/bin/sh
# Makes the project's own Python environment in .venv from the system's Python.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-/usr/bin/python3}
venv=$top/.venv

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
	echo "setup: $python is $("$python" --version); Python 3.11 or later is needed" >&2
	exit 1
}

echo "setup: Python environment in .venv"
rm -rf "$venv"
"$python" -m venv "$venv"
pip() {
	"$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"
}
pip install -r "$top/setup/pip.txt"
pip install --build-constraint "$top/setup/build-constraints.txt" \
	--constraint "$top/setup/constraints.txt" -r "$top/requirements.txt"
# The build backend warns about editable installations as such.
PYTHONWARNINGS=ignore pip install --no-deps --editable "$top"

site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp "$top/setup/l45_ryu_compat.py" "$top/setup/l45_ryu_compat.pth" "$site/"

# Debian's mininet belongs to the system's Python; of that folder we want this one package.
mininet=$("$python" -c 'import mininet, os; print(os.path.dirname(mininet.__file__))' \
	2>/dev/null || true)
[ -z "$mininet" ] || ln -sfn "$mininet" "$site/mininet"
