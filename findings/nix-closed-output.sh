#!/bin/sh
# Nix kills a builder that closes its output before it ends, and says that the build has failed.
#
# Nix takes the end of a builder's output for the end of the builder. Programs of coreutils close
# their output, as the last thing they do, before they end: a builder whose last act is such a
# program, in the place of its shell (sh -c 'mkdir -p $out; chmod +x x'), is killed now and then,
# whichever comes first. The shell must outlive it: end the script with "exit 0".
#
# Seen with Nix 2.8.0 of Debian 12 (nix-bin); 2.26.3 and 2.34.8 do the same. Exit code 0 if it is
# still so.
set -eu
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
export HOME="$folder" NIX_STORE_DIR="$folder/store" NIX_STATE_DIR="$folder/var" \
    NIX_LOG_DIR="$folder/log" NIX_CONF_DIR="$folder" NIX_USER_CONF_FILES=/dev/null
printf 'build-users-group =\nsandbox = false\nsubstitute = false\n' > "$folder/nix.conf"
build() {
    nix-build --no-out-link -E "derivation {
      name = \"x\"; system = builtins.currentSystem; builder = \"/bin/sh\";
      args = [ \"-c\" \"echo > \$out; $1\" ];
    }" > "$folder/said" 2>&1
}
nix-build --version
if build "exec >&- 2>&-; /bin/sleep 2; exit 0"; then
    echo "changed: a builder that closes its output is let be"
    exit 1
fi
grep 'failed' "$folder/said"
grep -q 'signal 9' "$folder/said" || { echo "changed: it fails of something else"; exit 1; }
build "exit 0" || { echo "changed: a builder that keeps its output fails too"; exit 1; }
echo "one that keeps its output succeeds"
