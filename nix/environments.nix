# Replaces interpreters and libraries that are named together by one environment, in which the
# interpreter finds all of them.
#
# A library is recognised by a mark of nixpkgs, or by its nested set, which has an interpreter under
# one of the usual names. The environment is made by the interpreter's own withPackages; without
# that, the interpreter is added, and the libraries say which kind they are of, so that the image's
# variables can point to them.
#
# refuse    { error, … }: throws
# within    entry: value: value, evaluated in a context that names the entry's package
# entry     package: hit: { package, hit, derivations, said }
# entries   the packages that were found: hit has path, value, and parent, the set of the value
{ refuse, within, entry, isDerivation }: entries:
let
  inherit (builtins)
    any attrNames concatMap concatStringsSep elemAt filter genList groupBy hasAttr head length
    listToAttrs map tryEval unsafeDiscardStringContext;

  kinds = [ "python" "perl" "ruby" "lua" "ghc" "php" ];
  marks = { python = "pythonModule"; perl = "perlModule"; lua = "luaModule"; };

  interpreterIn = set: kind:
    let tried = tryEval (isDerivation (set.${kind} or null)); in tried.success && tried.value;

  ownerOf = { path, value, parent }:
    let
      marked = filter (kind: hasAttr marks.${kind} value) (attrNames marks);
      mark = value.${marks.${head marked}};
      there = filter (interpreterIn parent) kinds;
      interpreter = parent.${head there};
      isNested = length path > 1 && (parent.recurseForDerivations or false) == true;
    in
    if marked != [ ] then
      if isDerivation mark then { kind = head marked; interpreter = mark; } else null
    # A set with interpreters of several kinds is no set of libraries.
    else if isNested && length there == 1 && interpreter.drvPath != value.drvPath then
      { kind = head there; inherit interpreter; }
    else null;

  known = map (each: each // { owner = within each (ownerOf each.hit); }) entries;
  libraries = groupBy (each: each.owner.kind) (filter (each: each.owner != null) known);

  packages = list: map (each: each.package) list;

  # The replacement of the libraries of a kind, and of their interpreter.
  environmentOf = kind: members:
    let
      first = head members;
      inherit (first.owner) interpreter;
      derivationOf = each: value: within each value.drvPath;
      own = derivationOf first interpreter;
      others = filter (each: derivationOf each each.owner.interpreter != own) members;
      named = filter (each: each.owner == null) known;
      isOurs = each: derivationOf each each.hit.value == own;
      isRival = each:
        !isOurs each && each.hit.value ? pname && interpreter ? pname
        && each.hit.value.pname == interpreter.pname;
      rivals = filter isRival named;
      chosen = map (each: each.hit.value) members;
      made =
        if interpreter ? withPackages then interpreter.withPackages (_: chosen)
        else if interpreter ? withExtensions then
          interpreter.withExtensions ({ enabled ? [ ], ... }: enabled ++ chosen)
        else null;
      environment = within first made;
      path = first.hit.path;
      place = genList (elemAt path) (length path - 1) ++ [ kind ];
      brought = entry (concatStringsSep "." place) { path = place; value = interpreter; parent = { }; };
    in
    if others != [ ] || rivals != [ ] then
      refuse { error = "interpreters"; inherit kind; packages = packages ([ first ] ++ others ++ rivals); }
    else if environment == null then {
      entries = map (each: each // { said = each.said // { library = kind; }; }) members
        ++ (if any isOurs named then [ ] else [ brought ]);
      members = packages members;
    }
    else
      let
        replaced = members ++ filter isOurs named;
        told = each: each // {
          derivations = [ environment ];
          said = each.said // {
            path = unsafeDiscardStringContext environment.outPath;
            others = [ ];
            program = brought.said.program;
          };
        };
      in
      { entries = map told replaced; members = packages replaced; };

  environments = map (kind: environmentOf kind libraries.${kind}) (attrNames libraries);
  taken = listToAttrs
    (map (name: { inherit name; value = true; }) (concatMap (each: each.members) environments));
in
filter (each: !hasAttr each.package taken) known ++ concatMap (each: each.entries) environments
