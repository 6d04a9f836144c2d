# Nixery as a package of nixpkgs: `pkgs.callPackage ./package.nix { }`. It has the programs nixery
# and twistd, which has Nixery among its plugins.
{ lib, python3, runCommand, makeWrapper, coreutils, git, gnutar, gzip, nix, openssh, util-linux }:
let
  inherit (lib.importTOML ../pyproject.toml) project;
  inherit (project) version;

  library = python3.pkgs.buildPythonPackage {
    pname = "nixery";
    inherit version;
    pyproject = true;
    src = lib.cleanSource ../.;
    build-system = [ python3.pkgs.setuptools ];
    dependencies = with python3.pkgs; [
      attrs
      bcrypt
      botocore
      click
      cryptography
      deflate
      google-api-core
      google-auth
      google-cloud-storage
      google-crc32c
      inotify-simple
      isal
      klein
      license-expression
      markdown-it-py
      opentelemetry-api
      opentelemetry-exporter-otlp-proto-http
      opentelemetry-sdk
      packageurl-python
      packaging
      prometheus-client
      psutil
      pyjwt
      pyopenssl
      requests
      rich
      treq
      twisted
      werkzeug
      zope-interface
      zstandard
    ] ++ twisted.optional-dependencies.tls;
    # The bytes of layers depend on these two. With other versions, layers have other digests than
    # those of instances that were installed from PyPI; among instances of this package they agree.
    pythonRelaxDeps = [ "isal" "zstandard" ];
    # The tests start daemons, container engines and browsers: `make test` in a checkout.
    doCheck = false;
    pythonImportsCheck = [ "nixery.tap" ];
  };

  environment = python3.withPackages (_: [ library ]);
  programs = lib.makeBinPath [ coreutils git gnutar gzip nix openssh util-linux ];
in
runCommand "nixery-${version}"
{
  nativeBuildInputs = [ makeWrapper ];
  passthru = { inherit library environment; };
  meta = {
    inherit (project) description;
    license = lib.licenses.asl20;
    mainProgram = "nixery";
    platforms = lib.platforms.linux;
  };
} ''
  for program in nixery twistd; do
    makeWrapper ${environment}/bin/$program $out/bin/$program --prefix PATH : ${programs}
  done
''
