# A package set that looks like a small nixpkgs. Every package is real: one or several Debian
# packages, unpacked to a store path and patched to use nothing outside the store. generate.py
# writes the lock files and fetches the packages.
{ system ? builtins.currentSystem, config ? { }, overlays ? [ ], ... }:
let
  inherit (builtins)
    attrNames elemAt filter foldl' fromJSON groupBy head isString length map mapAttrs readFile split
    toJSON;

  lockFile = {
    x86_64-linux = ./packages-amd64.json;
    aarch64-linux = ./packages-arm64.json;
  }.${system} or (throw "this package set has no packages for ${system}");

  lock =
    let contents = fromJSON (readFile lockFile); in
    if contents ? absent then throw "this package set has no packages for ${system}: ${contents.absent}"
    else contents;

  debs = toString ../debs;

  fetch = deb: derivation {
    name = deb.file;
    system = "builtin";
    builder = "builtin:fetchurl";
    url = "file://${debs}/${deb.file}";
    outputHashMode = "flat";
    outputHashAlgo = "sha256";
    outputHash = deb.sha256;
    executable = false;
    unpack = false;
    preferLocalBuild = true;
  };

  # Unpacking and patching needs no program of the package: it is done here, whatever the
  # architecture of what is unpacked.
  buildSystem = builtins.currentSystem;

  make = pname: package:
    derivation
      {
        name = "${pname}-${package.version}";
        system = buildSystem;
        inherit pname;
        builder = "/usr/bin/python3";
        args = [ "-I" "${./builder}/build.py" ];
        debs = map fetch package.debs;
        only = toJSON (map (deb: deb.only) package.debs);
        depends = map (name: packages.${name}) package.depends;
        dependNames = package.depends;
        inherit (lock) arch;
        wrapped = toJSON package.wrapped;
        preferLocalBuild = true;
      } // {
      inherit pname;
      inherit (package) version;
      meta = {
        inherit (package) description homepage;
        available = true;
        identifiers = { inherit (package) purls; };
      }
      // (if package.program == null then { } else { mainProgram = package.program; });
    } // (if package.interpreter == null then { } else {
      withPackages = choose: environment pname package.interpreter (choose top);
    });

  # An interpreter that finds some libraries, as nixpkgs' interpreters offer it.
  environment = pname: told: libraries: derivation {
    name = "${pname}-environment";
    system = buildSystem;
    builder = "/usr/bin/python3";
    args = [ "-I" "${./builder}/environment.py" ];
    interpreter = packages.${pname};
    inherit (packages) bash;
    inherit libraries;
    told = toJSON told;
    preferLocalBuild = true;
  };

  packages = mapAttrs make lock.packages;

  steps = attribute: filter isString (split "\\." attribute);

  # haskellPackages.ShellCheck → haskellPackages = { ShellCheck = …; }
  nest = depth: attributes: mapAttrs
    (_: members:
      if length (steps (head members)) == depth + 1 then packages.${lock.attributes.${head members}}
      else { recurseForDerivations = true; } // nest (depth + 1) members)
    (groupBy (attribute: elemAt (steps attribute) depth) attributes);

  top = nest 0 (attrNames lock.attributes);
in
foldl' (set: overlay: set // overlay set set) top overlays
