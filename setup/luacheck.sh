#!/bin/sh
# Lints the dissectors as they are generated, for every module; says so where luacheck is missing.
set -eu

top=$(cd "$(dirname "$0")/.." && pwd)
command -v luacheck >/dev/null || {
	echo "lint: luacheck is not installed (Debian package lua-check): Lua is not checked" >&2
	exit 0
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for module in "$top"/kernel_tap/modules/*/; do
	grep -q '^\[wire\]' "$module/manifest.toml" || continue # nothing to dissect
	name=$(basename "$module")
	"$top/.venv/bin/python" -m dissectors.generate "$module" -o "$scratch/$name.lua"
done
luacheck --quiet --config "$top/.luacheckrc" "$scratch"/*.lua
