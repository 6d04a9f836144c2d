# A derivation that needs nothing but what Nix has in itself, and is built as every other: in the
# sandbox. It shows that this machine can build.
#
# `request` is JSON: { name }, which no derivation has had before.
{ request }:
derivation {
  inherit (builtins.fromJSON request) name;
  system = builtins.currentSystem;
  builder = "builtin:buildenv"; # a folder of links, to nothing here
  derivations = [ ];
  manifest = "/dev/null";
  allowSubstitutes = false; # nobody has it: no cache needs to be asked
}
