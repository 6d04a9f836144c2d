# The tests' package set: the Debian-based one, which lies beside this folder as `pkgs`, and
# packages that are odd, slow, broken or hostile.
{ system ? builtins.currentSystem, config ? { }, overlays ? [ ], slowSeconds ? 5 }:
let
  inherit (builtins) mapAttrs removeAttrs;
  real = import ../pkgs { inherit system; };
  inherit (real) bash hello;
  inherit (real.python3Packages) six;

  # Scripts end with `exit 0`: a shell whose last command is not a builtin replaces itself by it,
  # and such builders have now and then been killed.
  build = name: attributes: script: derivation
    ({
      inherit name;
      system = builtins.currentSystem;
      builder = "/bin/sh";
      PATH = "/usr/bin:/bin";
      args = [ "-euc" "${script}\nexit 0" ];
      preferLocalBuild = true;
    } // attributes) // { meta.description = "a package for tests"; };

  slow = name: seconds: build "${name}-1.0" { } ''
    i=0
    while [ $i -lt ${toString seconds} ]; do i=$((i+1)); echo "step $i of ${toString seconds}"; sleep 1; done
    mkdir -p $out/bin
    printf '#!%s\necho done\n' ${bash}/bin/bash > $out/bin/${name}
    chmod +x $out/bin/${name}
  '';

  collide = name: script: build "${name}-1.0" { } "mkdir -p $out/bin; ${script}";

  otherPython = collide "other-python" "echo > $out/bin/python3" // { pname = "python3"; };

  broken = build "broken-1.0" { } ''
    echo "unpacking sources"
    echo "building"
    echo "error: undeclared identifier 'frobnicate'" >&2
    sleep 1
    exit 2
  '';

  hostile = "<script>alert(1)</script>\\033]0;title\\007\\033[31mred\\033[0m\\r";
in
real // {
  # --- that fail ---
  inherit broken;
  dependsOnBroken = build "depends-on-broken-1.0" { } "ln -s ${broken} $out";
  neverTheSame = build "never-the-same-1.0" { } ''
    mkdir -p $out/share
    echo the same > $out/share/a
    read id < /proc/sys/kernel/random/uuid
    echo "$id" > $out/share/id
  '';
  noOutput = build "no-output-1.0" { } "echo nothing is made";
  # What was loaded is not what its author had seen.
  wrongHash = build "wrong-hash-1.0"
    { outputHashAlgo = "sha256"; outputHashMode = "flat"; outputHash = "0000000000000000000000000000000000000000000000000000"; }
    "echo what was loaded > $out";
  otherSystem = build "other-system-1.0" { system = "riscv64-linux"; } "mkdir $out";
  missingFile = builtins.readFile /srv/nowhere/notes.txt;
  brokenEval = throw "Package ‘broken-eval-1.0’ is marked as broken, refusing to evaluate.";
  unfreeEval = throw "Package ‘unfree-1.0’ has an unfree license (‘unfree’), refusing to evaluate.";
  abortEval = builtins.abort "this package gives up";
  typeErrorEval = 1 + "x";
  infiniteRecursion = let x = x; in x;
  hostileText = build "hostile-text-1.0" { } "printf '${hostile}\\n'; printf 'error: ${hostile}\\n' >&2; exit 1";

  # Builds in a sandbox alone: outside of it, a container's state folder is there.
  inside = build "inside-1.0" { } "test ! -e /var/lib/nixery; mkdir -p $out/share";

  # --- that take long, or print much ---
  slow = slow "slow" slowSeconds;
  timeout = build "timeout-1.0" { } "echo waiting; sleep 100000";
  stubborn = build "stubborn-1.0" { } "trap '' TERM; echo staying; sleep 100000 & sleep 100000; wait";
  noisy = build "noisy-1.0" { } ''
    seq -f 'line %g: lorem ipsum dolor sit amet, consectetur adipisici elit' 1 150000
    printf '\033[31mred\033[0m\r\n\377\376 is no UTF-8\n' >&2
    printf 'no newline at the end'
    mkdir -p $out/share; echo noisy > $out/share/noisy
  '';

  # --- that are no packages ---
  notADerivation = "just a string";
  aFunction = x: x;
  aNumber = 42;
  aList = [ hello ];
  anEmptySet = { };

  # --- names ---
  ambiguousPkg = hello;
  ambiguousPKG = bash;
  twiceNamed = hello;
  twicenamED = hello;
  camelCasePackage = build "camel-case-1.0" { } "mkdir -p $out/bin; ln -s ${hello}/bin/hello $out/bin/camel";
  _1digit = hello;

  # --- outputs ---
  fileOutput = build "file-output-1.0" { } "echo a plain file > $out";
  emptyOutput = build "empty-output-1.0" { } "mkdir $out";
  selfReference = build "self-reference-1.0" { } "mkdir -p $out; ln -s $out $out/me";
  installsTwo = build "two-1.0" { outputs = [ "out" "man" "dev" ]; } ''
    mkdir -p $out/bin $man/share/man/man1 $dev; echo > $out/bin/two; chmod +x $out/bin/two
    echo manual > $man/share/man/man1/two.1
  '' // { meta.outputsToInstall = [ "out" "man" ]; };
  namesItsProgram = build "programs-1.0" { } ''
    mkdir -p $out/bin
    for name in one other; do printf '#!%s\necho this is %s\n' ${bash}/bin/bash $name > $out/bin/$name; done
    chmod +x $out/bin/*
  '' // { meta.mainProgram = "other"; };
  described = build "described-1.0" { version = "1.0"; } "mkdir -p $out/share" // {
    meta = {
      description = "a package that says what it is";
      homepage = [ "https://example.com/described" ];
      license = [ { spdxId = "MIT"; shortName = "mit"; } { shortName = "unfree"; fullName = "Unfree"; } ];
    };
  };
  oddlyDescribed = build "odd-1.0" { } "mkdir -p $out/share" // {
    version = 1;
    meta = { description = throw "no words"; homepage = [ ]; license = [ (throw "no licence") "Our own" null ]; };
  };
  # What can't be caught where it is evaluated: search leaves such a set out.
  straySayings = {
    homepage = build "stray-1.0" { version = "1.0"; } "mkdir -p $out/share" // { meta.homepage = { }.homepage; };
  };
  # A set of libraries whose interpreter makes no environments, and one of another version.
  plainPackages = {
    recurseForDerivations = true;
    python = removeAttrs real.python3 [ "withPackages" ];
    inherit (real.python3Packages) six;
  };
  # One whose interpreter makes environments that can't be evaluated to their ends.
  lonelyLibrary = build "lonely-1.0" { } "echo > $out" // {
    pythonModule = real.python3 // {
      withPackages = _: real.python3 // { outPath = throw "lonely is for another Python"; };
    };
  };
  inherit otherPython;

  service = build "service-1.0" { } ''
    mkdir -p $out/bin
    printf '#!%s\nexec %s -m http.server --bind 127.0.0.1 --directory /srv "$@"\n' \
      ${bash}/bin/bash ${real.python3}/bin/python3 > $out/bin/service
    chmod +x $out/bin/service
  '' // {
    passthru.image = {
      entrypoint = [ "/bin/service" ];
      cmd = [ "8080" ];
      env = { GREETING = "hello"; LANG = "C"; };
      user = "1000:1000";
      workingDir = "/srv";
      labels = { "org.example.team" = "web"; "org.opencontainers.image.title" = "A service"; };
      exposedPorts = [ 8080 "53/udp" ];
      volumes = [ "/srv/data" ];
      files = { "/srv/index.html" = "it serves\n"; "/etc/service.conf" = { text = "x"; mode = "0600"; }; };
    };
  };
  wrongService = hello // { passthru.image = { entrypiont = [ "/bin/hello" ]; }; };
  strayService = hello // { passthru.image.entrypoint = [ "${real.jq}/bin/jq" ]; };
  # What packages say of images, and should not.
  says = mapAttrs (_: said: hello // { passthru.image = said; }) {
    aText = "run me";
    aList = [ "/bin/hello" ];
    aNumber = 1;
    aFunction = image: image;
    aPackage = hello;
    aTextForAList = { entrypoint = "/bin/hello"; };
    aNumberInAList = { cmd = [ 1 ]; };
    aFunctionInAList = { cmd = [ (x: x) ]; };
    aVariable = { env."1x" = "y"; };
    aPort = { exposedPorts = [ 123456 ]; };
    aUser = { user = "some body"; };
    aFolder = { workingDir = "srv"; };
    aLabel = { labels.x = true; };
    aVolume = { volumes = [ "/proc" ]; };
    aFile = { files."etc/x" = ""; };
    aMode = { files."/etc/x" = { text = ""; mode = "u+s"; }; };
    itself = { cmd = throw "it says nothing"; };
    nothing = throw "it says nothing at all";
  };
  # Libraries without their interpreters, and of two of them.
  oddPackages = {
    recurseForDerivations = true;
    lost = six // { pythonModule = throw "Python 2 is gone"; };
    application = hello // { pythonModule = false; };
    failing = throw "Package ‘failing-1.0’ is marked as broken, refusing to evaluate.";
    unbuildable = six // { pythonModule = real.python3 // { drvPath = throw "Python 1 is gone"; }; };
    foreign = six // { pythonModule = otherPython; };
  };
  # A program of a set whose loader finds no libraries but those of the store, as nixpkgs' own, and
  # what nixpkgs has for the loader's place: here a loader that finds them.
  ownLibraries =
    let
      c = build "c-library-1.0" { } ''
        mkdir -p $out/lib; cp -a ${real.glibc}/lib/*.so* $out/lib/; chmod u+w $out/lib/ld-linux*
        LC_ALL=C sed -i 's,/lib/\([a-z0-9_]*-linux-gnu/\),/nix/\1,g' $out/lib/ld-linux*
      '';
    in
    build "own-libraries-1.0" { } ''
      mkdir -p $out/bin; cp ${hello}/bin/hello $out/bin/own; chmod u+w $out/bin/own
      patchelf --set-interpreter $(echo ${c}/lib/ld-linux*) --set-rpath ${c}/lib $out/bin/own
    '';
  standInLoader = build "stand-in-1.0" { } "mkdir -p $out/libexec; cp ${real.glibc}/lib/ld-linux* $out/libexec/nix-ld";
  manySettings = build "many-settings-1.0" { } ''
    mkdir -p $out/etc/nix $out/etc/fonts $out/nix/var/nix/db $out/libexec $out/share/terminfo/m
    echo 'sandbox = true' > $out/etc/nix/nix.conf; echo x > $out/nix/var/nix/db/schema
    ln -s /nowhere $out/etc/fonts/fonts.conf; ln -s /nowhere $out/libexec/nix-ld
    LC_ALL=C sed '1s/xterm|/mterm|/' ${real.ncurses}/lib/terminfo/x/xterm > $out/share/terminfo/m/mterm
  '';

  multipleOutputs = build "multi-1.0" { outputs = [ "out" "dev" ]; } ''
    mkdir -p $out/bin $dev/include; echo $out > $dev/include/ref; ln -s ${hello}/bin/hello $out/bin/multi
  '';
  collideA = collide "collide-a" "echo a > $out/bin/collide";
  collideB = collide "collide-b" "echo b > $out/bin/collide";
  collideC = collide "collide-c" "mkdir $out/bin/collide; echo c > $out/bin/collide/c";
  danglingShell = build "dangling-shell-1.0" { } "mkdir -p $out/bin; ln -s /nowhere $out/bin/sh";
  bringsSystemFolders = build "system-folders-1.0" { } ''
    mkdir -p $out/nix/store $out/dev $out/etc; echo x > $out/nix/store/x; echo x > $out/dev/x; echo x > $out/tmp
    echo 'root:x:0:0:from a package:/root:/bin/sh' > $out/etc/passwd
    echo 'NAME="from a package"' > $out/etc/os-release
  '';
  hugeFile = build "huge-file-1.0" { } ''
    mkdir -p $out/share
    openssl enc -aes-128-ctr -nosalt -K 0 -iv 0 < /dev/zero 2>/dev/null | head -c 500000000 > $out/share/noise
  '';
  oddNames = build "odd-names-1.0" { } ''
    mkdir -p $out/empty "$out/with space" $out/deep
    long=$(printf 'n%.0s' $(seq 1 200))
    mkdir -p "$out/deep/$long/$long"
    echo long > "$out/deep/$long/$long/$long"
    echo space > "$out/with space/a file"
    echo newline > "$out/new
line"
    echo umlaut > "$out/größe"
    echo bytes > "$out/$(printf '\377\376')"
    echo same > $out/first; ln $out/first $out/second
    echo run > $out/run; chmod 755 $out/run; echo read > $out/read; chmod 600 $out/read
    ln -s first $out/relative; ln -s ${hello}/bin/hello $out/absolute
    ln -s ../../../../etc/passwd $out/climbing; ln -s nowhere $out/dangling
    : > $out/nothing
  '';
}
