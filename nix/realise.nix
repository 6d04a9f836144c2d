# Finds packages in any attribute set of derivations: evaluates to a list of their derivations, for
# nix-build to build. It prints what was found, or what is wrong with a name, as JSON between two
# marks to standard error, where nixery/nix/account.py reads it.
#
# `request` is JSON, which is data whatever it holds; it has the mark, which no package knows.
# Nothing of nixpkgs is needed: any attribute set, or function to one, will do. It works with Nix
# 2.8 and later.
{ request, findSet ? import ./set.nix, combine ? import ./environments.nix }:
let
  inherit (builtins)
    addErrorContext all attrNames concatMap deepSeq elem filter hasAttr head fromJSON isAttrs isFunction isList isString
    replaceStrings seq split stringLength tail toJSON typeOf tryEval unsafeDiscardStringContext;

  asked = fromJSON request;

  say = value: "${asked.mark}${toJSON value}${asked.mark}";
  refuse = value: throw (say value);

  # The contexts of a fault tell whether the source, the set as a whole or one package has it.
  within = stage: value: addErrorContext (say { inherit stage; }) value;

  set = findSet { inherit asked within refuse; };

  # --- names ---

  lower = replaceStrings
    [ "A" "B" "C" "D" "E" "F" "G" "H" "I" "J" "K" "L" "M" "N" "O" "P" "Q" "R" "S" "T" "U" "V" "W" "X" "Y" "Z" ]
    [ "a" "b" "c" "d" "e" "f" "g" "h" "i" "j" "k" "l" "m" "n" "o" "p" "q" "r" "s" "t" "u" "v" "w" "x" "y" "z" ];

  # The attributes that a step of a path may mean: the first of its spellings that is there, or else
  # those that differ from a spelling only in case.
  candidates = attrs: spellings:
    let
      exact = filter (s: hasAttr s attrs) spellings;
      # Lengths first: lower-casing all names of a large set would take longest of all this.
      alike = spelling: filter
        (n: stringLength n == stringLength spelling && lower n == lower spelling)
        (attrNames attrs);
    in
    if exact != [ ] then [ (head exact) ] else concatMap alike spellings;

  # --- packages ---

  article = {
    int = "a number"; float = "a number"; bool = "a boolean"; string = "a string"; path = "a path";
    null = "null"; list = "a list"; lambda = "a function"; set = "a set of other things";
  };

  notAPackage = package: value: refuse {
    error = "kind";
    inherit package;
    kind = article.${typeOf value};
    inside = if isAttrs value then attrNames value else [ ];
  };

  isDerivation = value: isAttrs value && (value.type or null) == "derivation";

  # Whether all are one derivation: then it does not matter which name is meant.
  areOne = values:
    let same = tryEval (all (v: isDerivation v && v.drvPath == (head values).drvPath) values); in
    same.success && same.value;

  # The outputs to install according to the package, unless one of them was named.
  installed = package:
    let
      said = tryEval (package.meta.outputsToInstall or [ ]);
      wanted = if said.success && isList said.value then filter isString said.value else [ ];
      there = filter (o: elem o (package.outputs or [ ]) && hasAttr o package) wanted;
    in
    if package.outputSpecified or false || there == [ ] then [ package ]
    else map (o: package.${o}) there;

  # Follows the remaining steps of a package's path from a value at `path` in the set, in `parent`.
  find = package: path: parent: value: rest:
    let names = candidates value (head rest); in
    if rest == [ ] then { inherit path value parent; found = true; }
    else if !isAttrs value then notAPackage package value
    else if names == [ ] then { inherit path value; found = false; }
    else if tail names != [ ] && !areOne (map (n: value.${n}) names) then
      refuse { error = "ambiguous"; inherit package; matches = map (n: path ++ [ n ]) names; }
    else find package (path ++ [ (head names) ]) value value.${head names} (tail rest);

  # The description of a package: a part of its meta that fails is left out.
  attempt = value: let tried = tryEval value; in if tried.success then tried.value else null;
  text = value:
    let known = attempt value; in
    if isString known && stringLength known <= 1000 then unsafeDiscardStringContext known else "";
  many = value: let known = attempt value; in if isList known then known else if known == null then [ ] else [ known ];

  # A licence as nixpkgs has it, or its name.
  licence = value:
    let known = attempt value; in
    if isString known then { spdx = ""; name = text known; }
    else {
      spdx = text (known.spdxId or null);
      name = text (known.shortName or known.fullName or null);
    };

  # tryEval does not catch all that may be wrong in it, such as a missing attribute, or a text that
  # newer versions of Nix can't write as JSON. The caller sees that from the stage, and runs this
  # again without `about`.
  about = package:
    let
      from = package: {
        version = text (package.version or null);
        description = text (package.meta.description or null);
        homepage = text (head (many (package.meta.homepage or null) ++ [ null ]));
        licenses = map licence (many (package.meta.license or null));
        cpe = text (package.meta.identifiers.cpe or null);
        purls = map text (many (package.meta.identifiers.purls or package.meta.identifiers.purl or null));
      };
      known = from (if asked.about then package else { });
    in
    within "about" (seq (toJSON known) known);

  # The declaration of a package for images that hold it; other values of that name are no data.
  declared = package:
    let said = package.passthru.image or null; in
    # By way of JSON: a derivation in it becomes its path, without being evaluated whole.
    if isDerivation said || isFunction said then null
    else fromJSON (unsafeDiscardStringContext (toJSON said));

  entry = package: found: rec {
    inherit package;
    hit = { inherit (found) path value parent; };
    derivations = installed hit.value;
    said = {
      inherit package;
      attribute = hit.path;
      inherit (hit.value) name;
      path = unsafeDiscardStringContext (head derivations).outPath;
      others = map (d: unsafeDiscardStringContext d.outPath) (tail derivations);
      program = text (hit.value.meta.mainProgram or null);
      about = about hit.value;
      image = declared hit.value;
    };
  };

  lookup = { name, steps, optional }:
    let hit = find name [ ] { } set steps; in
    if hit.found then [ (if isDerivation hit.value then entry name hit else notAPackage name hit.value) ]
    else if optional then [ ]
    else refuse {
      error = "missing";
      package = name;
      at = hit.path;
      names = attrNames hit.value;
      dotted = withDots [ ] set hit.path;
    };

  # The attributes with a dot in their own name, in the sets along a path.
  withDots = before: value: rest:
    map (name: before ++ [ name ]) (filter (name: tail (split "[.]" name) != [ ]) (attrNames value))
    ++ (if rest == [ ] then [ ]
    else withDots (before ++ [ (head rest) ]) value.${head rest} (tail rest));

  # A failure within this context names the package that it came from.
  ofPackage = name: addErrorContext (say { stage = "evaluate"; package = name; });

  evaluated = package:
    ofPackage package.name
      (let hits = lookup package; in deepSeq (map (hit: hit.said) hits) hits);

  combined = combine {
    inherit refuse entry isDerivation;
    within = each: ofPackage each.package;
  };

  hits =
    if within "evaluate" (isAttrs set) then combined (concatMap evaluated asked.packages)
    else refuse { error = "set"; kind = article.${typeOf set}; };
  # Environments are evaluated here: a fault in one names its package too.
  found = map (hit: ofPackage hit.package (deepSeq hit.said hit.said)) hits;
in
# deepSeq: all names are looked up before the first derivation is written to the store.
deepSeq found (builtins.trace (say { inherit found; library = set ? library; }) (concatMap (hit: hit.derivations) hits))
