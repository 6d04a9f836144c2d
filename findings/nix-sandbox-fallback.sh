#!/bin/sh
# Nix that can make no namespaces builds without its sandbox, though "sandbox = true", and succeeds.
#
# sandbox-fallback is true by default: where the kernel refuses the namespaces, Nix prints one line
# about it, builds all the same, with exit code 0, and what is built sees the machine. Whoever wants
# to know must build something with sandbox-fallback = false. Of a store in a folder (--store DIR),
# what is built is written to the machine's own /nix/store then, if that can be, and Nix says that
# the builder "failed to produce output path". That is not tried here: it would leave things there.
#
# Seen with Nix 2.8.0 of Debian 12 (nix-bin), which has to be installed, and util-linux. Exit code 0
# if it is still so.
set -eu
folder=$(mktemp -d)
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
export HOME="$folder" NIX_CONF_DIR="$folder" NIX_USER_CONF_FILES=/dev/null
printf 'build-users-group =\nsandbox = true\nsubstitute = false\n' > "$folder/nix.conf"
# A user namespace in which no further ones can be made, nor any of mounts.
without_namespaces() {
    unshare --user --map-root-user sh -c '
        for kind in user mnt; do echo 0 > /proc/sys/user/max_${kind}_namespaces; done
        exec "$@"' sh "$@"
}
build() {
    name=$1
    shift
    without_namespaces "$@" nix-build --no-out-link -E "derivation {
      name = \"$name\"; system = builtins.currentSystem; builder = \"builtin:buildenv\";
      derivations = [ ]; manifest = \"/dev/null\";
    }" > "$folder/said" 2>&1
}
# A store elsewhere than /nix that is not below another root: as good as /nix.
here="NIX_STORE_DIR=$folder/store NIX_STATE_DIR=$folder/var NIX_LOG_DIR=$folder/log"
nix-build --version
# shellcheck disable=SC2086  # words
build one env $here ||
    { cat "$folder/said"; echo "changed: without namespaces it does not build"; exit 1; }
echo "sandbox = true, no namespaces: it builds, and says:"
cat "$folder/said"
if build two env $here NIX_CONFIG='sandbox-fallback = false'; then
    echo "changed: it builds without namespaces where it may not"
    exit 1
fi
echo "sandbox-fallback = false: it does not"
