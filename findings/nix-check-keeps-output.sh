#!/bin/sh
# nix-store --check keeps an output that came out differently only where it is asked to, and one way
# of asking needs no program: run-diff-hook without a diff-hook.
#
# The manual names --keep-failed for it, which leaves the builder's folder in /tmp as well, for each
# derivation that differs or fails. run-diff-hook = true keeps the output, at its store path with
# .check behind it, also where diff-hook is empty and nothing is run; and no folder. That path is
# never valid, and nix-store --delete takes it all the same. The exit code is 104 if a difference is
# all that is wrong, and 100 if the builder fails. A derivation of which one output is not in the
# store can't be checked as a whole ("some outputs are not valid"); its others can, named as X.drv!out.
#
# Seen with Nix 2.8.0 of Debian 12 (nix-bin). Exit code 0 if it is still so.
set -eu
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
export HOME="$folder" NIX_STORE_DIR="$folder/store" NIX_STATE_DIR="$folder/var" TMPDIR="$folder/tmp" \
    NIX_LOG_DIR="$folder/log" NIX_CONF_DIR="$folder" NIX_USER_CONF_FILES=/dev/null
mkdir "$TMPDIR"
printf 'build-users-group =\nsandbox = false\nsubstitute = false\n' > "$folder/nix.conf"
cat > "$folder/x.nix" <<'NIX'
derivation {
  name = "x"; system = builtins.currentSystem; builder = "/bin/sh"; outputs = [ "out" "dev" ];
  args = [ "-c" "read id < /proc/sys/kernel/random/uuid; echo $id > $out; echo > $dev; exit 0" ];
}
NIX
drv=$(nix-instantiate "$folder/x.nix" 2> "$folder/said")
nix-store --realise "$drv" > "$folder/said" 2>&1
out=$(nix-store --query --binding out "$drv")
dev=$(nix-store --query --binding dev "$drv")
left() { find "$TMPDIR" -maxdepth 1 -name 'nix-build-*.drv-*' | wc -l; }
check() {
    code=0
    nix-store --realise --check "$@" > "$folder/said" 2>&1 || code=$?
    [ "$code" = "$expected" ] || { cat "$folder/said"; echo "changed: exit code $code"; exit 1; }
}
nix-store --version
expected=104
check "$drv"
[ ! -e "$out.check" ] || { echo "changed: it is kept without being asked for"; exit 1; }
check --option run-diff-hook true "$drv"
[ -e "$out.check" ] && [ "$(left)" = 0 ] || { echo "changed: run-diff-hook alone keeps it not"; exit 1; }
nix-store --delete "$out.check" > "$folder/said" 2>&1
[ ! -e "$out.check" ] || { echo "changed: it is not deleted"; exit 1; }
check --keep-failed "$drv"
[ -e "$out.check" ] && [ "$(left)" = 1 ] || { echo "changed: --keep-failed leaves no folder"; exit 1; }
nix-store --delete "$out.check" "$dev" > "$folder/said" 2>&1
expected=1
check "$drv"
grep -q 'are not valid, so checking is not possible' "$folder/said"
expected=104
check "$drv!out"
echo "as it was: a .check path without a hook, one folder only with --keep-failed"
