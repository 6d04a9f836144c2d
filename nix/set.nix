# The package set that is asked for: fetched, imported, and called if it is a function.
#
# asked     { source, system }: where it is, and the system that its packages are to run on
# within    stage: value: value, evaluated in a context that names the stage
# refuse    { error, … }: throws
{ asked, within, refuse }:
let
  inherit (builtins) functionArgs intersectAttrs isFunction;

  source = within "fetch" ({
    folder = asked.source.path;
    git = "${builtins.fetchGit {
      inherit (asked.source) url rev;
      allRefs = true;
    }}";
    tarball = "${builtins.fetchTarball asked.source.url}";
  }.${asked.source.type});

  expression = import source;

  # What a set is told, as far as it takes it; never the configuration of the daemon's user.
  arguments = { inherit (asked) system; config = { }; overlays = [ ]; };
  native = asked.system == builtins.currentSystem;
in
if isFunction expression then
  let taken = functionArgs expression; in
  if taken == { } then expression { inherit (asked) system; }
  else if taken ? system || native then expression (intersectAttrs taken arguments)
  else refuse { error = "system"; }
else if native then expression
else refuse { error = "system"; }
