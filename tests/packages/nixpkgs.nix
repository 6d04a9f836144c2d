# The Debian-based set, which lies beside this folder, in the shape of nixpkgs: its arguments,
# programs and manuals in outputs of their own, interpreters whose libraries are marked as theirs,
# aliases, one file of certificates, and a private service.
{ system ? builtins.currentSystem, localSystem ? { inherit system; }, crossSystem ? localSystem
, config ? { }, overlays ? [ ], crossOverlays ? [ ] }:
let
  real = import ../pkgs { inherit (crossSystem) system; };

  # As mkDerivation makes them: the first output is the package, passthru is in it too.
  make = name: { outputs ? [ "out" ], passthru ? { }, meta ? { } }: script:
    let
      made = derivation {
        inherit name outputs;
        system = builtins.currentSystem;
        builder = "/bin/sh";
        PATH = "/usr/bin:/bin";
        args = [ "-euc" "${script}\nexit 0" ];
        preferLocalBuild = true;
      };
    in
    made // passthru // {
      inherit passthru;
      meta = { outputsToInstall = [ (builtins.head outputs) ]; available = true; } // meta;
    };

  script = text: path: "printf '#!%s\\n%s\\n' ${real.bash}/bin/bash '${text}' > ${path}; chmod +x ${path}";

  # Programs in an output that is the package, the manual in another that is installed with it.
  apart = pname: make "${pname}-${real.${pname}.version}"
    {
      outputs = [ "bin" "dev" "out" "man" ];
      meta = { outputsToInstall = [ "bin" "man" ]; mainProgram = pname; };
    } ''
    mkdir -p $bin/bin $dev/include $out/lib $man/share/man/man1
    ln -s ${real.${pname}}/bin/${pname} $bin/bin/
    echo "manual of ${pname}" > $man/share/man/man1/${pname}.1
  '';

  interpreter = pname: mainProgram: packages: real.${pname} // {
    pkgs = packages;
    withPackages = choose: real.${pname}.withPackages (_: choose packages);
    meta = real.${pname}.meta // { inherit mainProgram; };
  };
  python3 = interpreter "python3" "python3.11" python3Packages;
  python3Packages = {
    recurseForDerivations = true;
    python = python3;
    six = real.python3Packages.six // { pythonModule = python3; };
  };
  perl = interpreter "perl" "perl" perlPackages;
  stringy = make "perl5.36.0-IO-Stringy-2.113" { passthru.perlModule = perl; } ''
    mkdir -p $out/share/perl5/IO; echo 'package IO::Stringy; 1;' > $out/share/perl5/IO/Stringy.pm
  '';
  perlPackages = {
    recurseForDerivations = true;
    inherit perl;
    Error = real.perlPackages.Error // { perlModule = perl; };
    IOStringy = stringy;
    IOstringy = stringy;
  };
in
real // {
  inherit system config perl perlPackages python3 python3Packages;
  lib.version = "24.05";
  callPackage = path: import path;
  python = throw "'python' has been renamed to/replaced by 'python3'";

  cacert = make "nss-cacert-3.98" { outputs = [ "out" "unbundled" ]; } ''
    mkdir -p $out/etc/ssl/certs $unbundled
    cat ${real.cacert}/etc/ssl/certs/ca-bundle.crt ${./authority.pem} > $out/etc/ssl/certs/ca-bundle.crt
  '';
  # Without ldd, ldconfig and the others of the C library.
  getent = make "getent-glibc-2.36" { } "mkdir -p $out/bin; ln -s ${real.getent}/bin/getent $out/bin/";
  curl = apart "curl";
  jq = apart "jq";
  stdenv.cc.cc.lib = make "gcc-13.2.0-lib" { } ''
    mkdir -p $out/lib; ln -s ${real.stdenv.cc.cc.lib}/lib/* $out/lib/; ln -s lib $out/lib64
  '';

  namesItsProgram = make "names-1.0" { meta.mainProgram = "other"; } ''
    mkdir -p $out/bin; ${script "echo one" "$out/bin/one"}; ${script "echo other" "$out/bin/other"}
  '';
  namesNone = make "none-1.0" { } ''
    mkdir -p $out/bin; ${script "echo one" "$out/bin/one"}; ${script "echo other" "$out/bin/other"}
  '';
  ab = make "lower-1.0" { } "mkdir -p $out/bin; ${script "echo lower" "$out/bin/which-one"}";
  aB = make "upper-1.0" { } "mkdir -p $out/bin; ${script "echo upper" "$out/bin/which-one"}";

  my-service = make "my-service-1.0"
    {
      passthru.image = {
        entrypoint = [ "/bin/my-service" ];
        cmd = [ "8080" ];
        exposedPorts = [ 8080 ];
        workingDir = "/srv";
        user = "nonroot";
        files."/srv/index.html" = "it serves\n";
      };
    } ''
    mkdir -p $out/bin
    ${script "exec ${real.python3}/bin/python3 -m http.server --directory /srv \"$1\"" "$out/bin/my-service"}
  '';
}
