# As much of nixpkgs as Nixery's own expressions use, to evaluate them without it. Derivations are
# real ones that are never built; their arguments can be looked at.
{ ... }:
let
  inherit (builtins) concatStringsSep functionArgs intersectAttrs isFunction listToAttrs map;

  make = name: derivation { inherit name; system = "x86_64-linux"; builder = "/bin/sh"; };
  programs = names: listToAttrs (map (name: { inherit name; value = make name; }) names);
  option = name: { inherit name; check = _: true; };

  lib = {
    cleanSource = path: path;
    importTOML = path: builtins.fromTOML (builtins.readFile path);
    licenses.asl20 = { spdxId = "Apache-2.0"; };
    makeBinPath = packages: concatStringsSep ":" (map (package: "${package}/bin") packages);
    mkEnableOption = description: { inherit description; default = false; };
    mkIf = condition: value: if condition then value else { };
    mkOption = option: option;
    platforms.linux = [ "x86_64-linux" "aarch64-linux" ];
    types = {
      package = option "package";
      port = option "port";
      bool = option "bool";
      str = option "str";
      path = option "path";
      int = option "int";
      float = option "float";
      attrsOf = _: option "attrsOf";
      nullOr = _: option "nullOr";
      oneOf = _: option "oneOf";
    };
  };

  library = pname: make pname // { inherit pname; };
  python = listToAttrs (map (name: { inherit name; value = library name; }) [
    "attrs"
    "bcrypt"
    "botocore"
    "click"
    "cryptography"
    "deflate"
    "google-api-core"
    "google-auth"
    "google-cloud-storage"
    "google-crc32c"
    "inotify-simple"
    "isal"
    "klein"
    "license-expression"
    "markdown-it-py"
    "opentelemetry-api"
    "opentelemetry-exporter-otlp-proto-http"
    "opentelemetry-sdk"
    "packageurl-python"
    "packaging"
    "prometheus-client"
    "psutil"
    "pyjwt"
    "pyopenssl"
    "requests"
    "rich"
    "setuptools"
    "treq"
    "werkzeug"
    "zope-interface"
    "zstandard"
  ]) // {
    twisted = library "twisted" // { optional-dependencies.tls = map library [ "pyopenssl" ]; };
    buildPythonPackage = arguments: make arguments.pname // { inherit arguments; };
  };

  pkgs = programs [ "coreutils" "git" "gnutar" "gzip" "makeWrapper" "nix" "openssh" "util-linux" ] // {
    inherit lib;
    python3 = {
      pkgs = python;
      withPackages = choose: make "environment" // { chosen = choose python; };
    };
    runCommand = name: arguments: script: make name // (arguments.passthru or { }) // {
      inherit script;
    };
    unixtools = programs [ "mount" ];
    dockerTools = programs [ "binSh" "caCertificates" ] // {
      buildLayeredImage = arguments: make arguments.name // { inherit arguments; };
    };
    callPackage = path: arguments:
      let function = if isFunction path then path else import path;
      in function (intersectAttrs (functionArgs function) pkgs // arguments);
  };
in
pkgs
