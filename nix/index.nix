# Lists the packages of a set, for the package search: prints the path of each attribute before it
# is evaluated, and an object for each package, one a line. They are traces, between marks;
# nixery/model/package_set.py reads them.
#
# It evaluates the attributes of the set, and of nested sets with recurseForDerivations. Packages
# that fail in the way that sets mark broken ones (throw, assert) are left out here. Of a package
# that ends the whole evaluation (abort, a missing attribute, a wrong type, infinite recursion), the
# path was printed last: the caller runs this again from there, and then with that path to skip.
#
# `request` is JSON: { system, source } as in realise.nix, and
# licences  whether to print the packages' licences too
# paths     true to print the store paths of the packages' outputs too, for nixery popcount
# from      the path to begin at, in the order of attribute names; [ ] for the first
# skip      paths not to be evaluated
{ request, findSet ? import ./set.nix }:
let
  inherit (builtins)
    attrNames concatStringsSep elem filter foldl' genList head isAttrs isList isString length elemAt
    seq split stringLength substring tail toJSON trace tryEval unsafeDiscardStringContext;

  asked = builtins.fromJSON request;

  set = findSet {
    inherit asked;
    within = stage: value: value;
    refuse = value: throw "this package set can't be used as it is configured: ${value.error}";
  };

  deepest = 3; # steps of a path
  longestName = 200; # bytes; of attribute names too
  longestText = 1000;
  most = 20; # licences, and outputs, of a package

  tell = value: trace "@nixery@${toJSON value}@nixery@";

  # --- one package ---

  attempt = value: let tried = tryEval value; in if tried.success then tried.value else null;

  # Lengths are bytes: a text is cut where a word ends, so as not to be cut within a character.
  cut = text:
    let words = filter isString (split " " (substring 0 longestText text)); in
    if stringLength text <= longestText then text
    else concatStringsSep " " (genList (elemAt words) (length words - 1));

  text = value: let known = attempt value; in
    if isString known then cut (unsafeDiscardStringContext known) else "";
  name = value: let known = attempt value; in
    if isString known && stringLength known <= longestName then unsafeDiscardStringContext known else "";
  first = value: let known = attempt value; in
    if isList known && known != [ ] then name (head known) else name known;

  # The first few of what an attribute has, one or many.
  many = value:
    let
      known = attempt value;
      every = if isList known then known else if known == null then [ ] else [ known ];
      count = length every;
    in
    genList (elemAt every) (if count < most then count else most);

  # A licence's SPDX identifier, or its name.
  licence = value:
    let
      known = attempt value;
      called = filter (each: each != "") (map name [ (known.spdxId or null) (known.shortName or null) (known.fullName or null) ]);
    in
    if isAttrs known then concatStringsSep "" (genList (elemAt called) (if called == [ ] then 0 else 1)) else name known;

  described = path: package: {
    inherit path;
    name = name (package.name or null);
    pname = name (package.pname or null);
    version = name (package.version or null);
    description = text (package.meta.description or null);
    program = name (package.meta.mainProgram or null);
    homepage = first (package.meta.homepage or null);
    available = attempt (package.meta.available or null) != false;
    outputs = map name (many (package.outputs or null));
  }
  # Where a run begins, the last one ended: a licence that can't be evaluated costs no package.
  // (if asked.licences && path != asked.from then { licences = map licence (many (package.meta.license or null)); } else { })
  // (if asked.paths or false then { paths = paths package; } else { });

  # The store paths; an output that can't be evaluated is left out.
  paths = package:
    let
      names = attempt (package.outputs or [ "out" ]);
      every = map (name: attempt (package.${name} or package).outPath) (if isList names then names else [ ]);
    in
    map unsafeDiscardStringContext (filter isString every);

  # --- the walk through the set ---

  isPackage = value: attempt ((value.type or null) == "derivation") == true;
  isNested = value: attempt (value.recurseForDerivations or false) == true;

  visit = path: from: member:
    let value = attempt member; in
    if elem path asked.skip || !isAttrs value then null
    else if isPackage value then tell (described path value) null
    else if length path < deepest && isNested value then walk path from value
    else null;

  # `from`: the rest of the path to begin at, within the sets that lead to it.
  walk = path: from: members:
    let
      within = name: from != [ ] && name == head from;
      isLater = name: from == [ ] || !(name < head from);
      wanted = filter (name: isLater name && stringLength name <= longestName) (attrNames members);
      step = name:
        let here = path ++ [ name ]; in
        tell here (visit here (if within name then tail from else [ ]) members.${name});
    in
    foldl' (_: name: seq (step name) null) null wanted;
in
if isAttrs set then walk [ ] asked.from set else throw "this package set is no attribute set"
