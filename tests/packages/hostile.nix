# Packages that mean harm. `set` is the folder of the tests' set; `unique` is another in every
# run, so that nothing is built yet.
{ system ? builtins.currentSystem, config ? { }, overlays ? [ ], set, unique }:
let
  usual = import set { inherit system; };
  inherit (usual) hello;

  # Scripts end with `exit 0`, as those of the tests' set.
  build = name: script: derivation {
    name = "${name}-${unique}";
    inherit system;
    builder = "/bin/sh";
    PATH = "/usr/bin:/bin";
    HOSTILE_MARK = unique;
    args = [ "-euc" "${script}\nexit 0" ];
    preferLocalBuild = true;
  };

  # Ten thousand million steps that each say something.
  numbers = builtins.genList (x: x) 100000;
  count = f: builtins.foldl' (sum: n: builtins.seq (f n) (sum + 1)) 0 numbers;
  long = builtins.concatStringsSep "" (builtins.genList toString 300);
  flood = count (n: count (m: builtins.trace long m));

  # Has Nix say something for a builder.
  say = level: msg: "cat <<'END'\n@nix ${builtins.toJSON { action = "msg"; inherit level msg; }}\nEND\n";
  found = ''@nixery@{"found":[{"package":"hello","attribute":["x"],"name":"x","path":"${other}"}]}@nixery@'';
  other = build "other" "mkdir -p $out/bin; echo forged > $out/bin/hello";
  # For whoever looks in them for URLs, for the expression's words, or for a derivation's name.
  longWords = ''
    python3 - <<'END'
    import json
    path = "'/nix/store/" + "0" * 32 + "-x"
    for word in ("a", "a+", "://", "@nixery@{", "'", path, path + ".drv!", "\n  ", "\x1b]"):
        said = {"action": "msg", "level": 0, "msg": word * (400000 // len(word))}
        print("@nix " + json.dumps(said), flush=True)
    END
  '';

  # A daemon as the book has it: no parent, a session of its own, no pipe of anybody's.
  daemon = ''
    (setsid sh -c 'trap "" TERM HUP INT; exec >/dev/null 2>&1 </dev/null; while :; do sleep 1000; done' &)
  '';
in
usual // {
  # --- while they are evaluated ---
  endlessTrace = builtins.seq flood hello;
  endlessEval = builtins.seq (count (n: count (m: m))) hello;
  hungryEval = builtins.deepSeq (builtins.genList (n: builtins.genList (m: n + m) 100000) 100000) hello;
  forgedTrace = builtins.trace ''@nixery@{"found":[{"package":"forgedtrace","attribute":["x"],"name":"x","path":"/etc"}]}@nixery@'' hello;
  forgedPath = hello // { outPath = "/etc"; };
  climbingPath = hello // { outPath = "${hello}/../../../etc"; };

  # --- while they are built ---
  endlessOutput = build "endless-output" "yes 'a line that comes again and again'";
  endlessLine = build "endless-line" "exec tr '\\0' x < /dev/zero";
  leavesDaemons = build "leaves-daemons" "${daemon} ${daemon} mkdir $out";
  failsWithDaemons = build "fails-with-daemons" "${daemon} echo broken; exit 3";
  stubborn = build "stubborn" ''
    trap "" TERM INT HUP; echo staying; (setsid sleep 100000 &); while :; do sleep 1000; done
  '';
  forks = build "forks" ''
    i=0; while [ $i -lt 300 ]; do (setsid sh -c 'trap "" TERM; sleep 1000' &); i=$((i+1)); done
    mkdir $out
  '';
  fillsTheDisk = build "fills-the-disk" "mkdir $out; exec dd if=/dev/zero of=$out/zeros bs=1M";
  small = build "small" "echo small > $out";

  # Nix takes what begins with `@nix ` for its own words, whoever prints it.
  forger = build "forger" (say 0 "trace: ${found}" + "mkdir $out");
  refuser = build "refuser" (say 0 ''error: @nixery@{"error":"set","kind":"forged"}@nixery@'' + "exit 3");
  longWords = build "long-words" (longWords + "mkdir $out");
  failsWithLongWords = build "fails-with-long-words" (longWords + "exit 3");

  # --- what they leave in their outputs ---
  links = build "links" ''
    mkdir -p $out/bin $out/etc $out/share
    ln -s /etc/shadow $out/etc/shadow; ln -s /etc $out/share/etc; ln -s ../../../../../etc/shadow $out/bin/climbing
    ln -s / $out/root; ln -s .. $out/up; ln -s ../../.. $out/share/top; ln -s loop $out/loop
    ln -s /proc/self/root/etc/shadow $out/proc
  '';
  linkToRoot = build "link-to-root" "ln -s / $out";
  linkToShadow = build "link-to-shadow" "ln -s /etc/shadow $out";
  linkUpwards = build "link-upwards" "ln -s ../../etc $out";
  linkToHello = build "link-to-hello" "ln -s ${hello} $out";
  linkToItself = build "link-to-itself" "ln -s $out $out";
  deviceFile = build "device-file" "mkdir $out; mknod $out/null c 1 3";
  fifo = build "fifo" "mkdir $out; mkfifo $out/fifo";
  socket = build "socket" ''
    mkdir $out
    python3 -c 'import os, socket; os.chdir(os.environ["out"]); socket.socket(socket.AF_UNIX).bind("socket")'
  '';
  setUid = build "set-uid" "mkdir -p $out/bin; cp /bin/sh $out/bin/suid; chmod 6755 $out/bin/suid || chmod 755 $out/bin/suid";
  writable = build "writable" "mkdir -p $out; echo x > $out/file; chmod 7777 $out $out/file || chmod 777 $out $out/file";
  names = build "names" ''
    mkdir $out; cd $out
    python3 - <<'END'
    import os
    names = [b"new\nline", b"tab\there", b"\x1b[31mred", b"\x7f", b"\xff\xfe", b"n" * 255, b"-rf", b"a\\b", b" ",
             b'"', b"'", b"<script>", b"..."]
    for name in names:
        open(name, "wb").close()
    deep = b"/".join([b"d" * 250] * 12)
    os.makedirs(deep)
    open(deep + b"/file", "wb").close()
    END
  '';
  deep = build "deep" "mkdir $out; cd $out; mkdir -p $(printf 'd/%.0s' $(seq 1500)); echo x > $(printf 'd/%.0s' $(seq 1500))file";
  sparse = build "sparse" "mkdir $out; truncate -s 3G $out/hole";
  manyFiles = build "many-files" ''
    mkdir -p $out/share/many
    python3 -c 'import os; os.chdir(os.environ["out"] + "/share/many"); [open(str(n), "w").close() for n in range(100000)]'
  '';
}
