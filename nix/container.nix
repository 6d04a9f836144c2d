# Nixery's container image, made by Nix; what the Dockerfile makes of Debian, and run as that is.
# It needs nixpkgs 24.11 or later:
#   nix-build container.nix && docker load < result && docker run -p 8080:8080 nixery
{ pkgs ? import <nixpkgs> { }
, nixery ? pkgs.callPackage ./package.nix { }
}:
let
  # At the same places as in the image of the Dockerfile, for its two scripts.
  files = pkgs.runCommand "nixery-container-files" { } ''
    mkdir -p $out/opt/nixery/bin $out/usr/local/bin $out/etc
    ln -s ${nixery}/bin/twistd $out/opt/nixery/bin/twistd
    ln -s ${nixery.environment}/bin/python $out/opt/nixery/bin/python
    cp ${../deploy/container/start} $out/usr/local/bin/start
    cp ${../deploy/container/healthy} $out/usr/local/bin/healthy
    echo nixery:x:1000:1000::/var/lib/nixery:/bin/sh > $out/etc/passwd
    echo nixery:x:1000: > $out/etc/group
  '';
in
pkgs.dockerTools.buildLayeredImage {
  name = "nixery";
  tag = "latest";
  contents = [
    files
    pkgs.coreutils
    pkgs.dockerTools.binSh
    pkgs.dockerTools.caCertificates
    pkgs.unixtools.mount
    pkgs.util-linux
  ];
  # Nix knows the programs of this image for what they are, and collects others as garbage only.
  includeNixDB = true;
  # Nix writes to /nix itself. It is no volume: there it would hide the programs of this image.
  uid = 1000;
  gid = 1000;
  fakeRootCommands = ''
    mkdir -p tmp var/lib/nixery nix/store nix/var
    chmod 1777 tmp
    chown -R 1000:1000 nix/var var/lib/nixery
    chown 1000:1000 nix nix/store
  '';
  config = {
    Entrypoint = [ "/usr/local/bin/start" ];
    Env = [
      "PATH=/bin:/usr/local/bin"
      "STATE_DIRECTORY=/var/lib/nixery"
      "HOME=/var/lib/nixery"
      "USER=nixery"
      "NIX_REMOTE=local"
      "NIXERY_NIX_MIN_FREE=5G"
      "PYTHONFAULTHANDLER=1"
      "PYTHONMALLOC=malloc"
    ];
    ExposedPorts."8080" = { };
    Volumes."/var/lib/nixery" = { };
    User = "1000:1000";
    WorkingDir = "/";
    StopSignal = "SIGTERM";
    Healthcheck = {
      Test = [ "CMD" "/usr/local/bin/healthy" ];
      # Docker takes nanoseconds.
      StartPeriod = 300 * 1000000000;
      Timeout = 10 * 1000000000;
    };
  };
}
