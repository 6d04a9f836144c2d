# The package set of a request: imported, and called if it is a function.
#
# asked     { source, system, configuration? }: where it is, the system of its packages, and the
#           configuration to pass to it
# within    stage: value: value, evaluated in a context that names the stage
# refuse    { error, … }: throws
{ asked, within, refuse }:
let
  inherit (builtins)
    filter fromJSON functionArgs getFlake hasAttr head intersectAttrs isFunction isList pathExists;

  native = asked.system == builtins.currentSystem;

  # --- a flake ---

  flake = within "fetch" (getFlake asked.source.reference);
  outputs = filter (name: flake ? ${name}) [ "legacyPackages" "packages" ];
  offered = filter (name: hasAttr asked.system flake.${name}) outputs;
  ofFlake =
    if outputs == [ ] then refuse { error = "flake"; }
    else if offered == [ ] then refuse { error = "system"; }
    else flake.${head offered}.${asked.system};

  # --- a folder or file of expressions ---

  place = asked.source.path;
  isFolder = pathExists (place + "/.");
  expression =
    if isFolder && !pathExists (place + "/default.nix") then refuse { error = "default"; }
    else import place;

  # The configuration of the set, as far as it takes one; never that of the daemon's user.
  told = { config = "{}"; overlays = null; } // asked.configuration or { };
  config = fromJSON told.config;
  imported = import told.overlays;
  overlays =
    if told.overlays == null then [ ]
    else if isList imported then imported
    else [ imported ];
  arguments = { inherit (asked) system; inherit config overlays; };
  needed =
    (if config == { } then [ ] else [ "config" ])
    ++ (if told.overlays == null then [ ] else [ "overlays" ]);

  called =
    let
      taken = functionArgs expression;
      lacking = filter (name: !hasAttr name taken) needed;
    in
    if lacking != [ ] then refuse { error = "configuration"; inherit lacking; }
    else if taken == { } then expression { inherit (asked) system; }
    else if taken ? system || native then expression (intersectAttrs taken arguments)
    else refuse { error = "system"; };
in
if asked.source.type == "flake" then ofFlake
else if isFunction expression then called
else if needed != [ ] then refuse { error = "configuration"; lacking = needed; }
else if native then expression
else refuse { error = "system"; }
