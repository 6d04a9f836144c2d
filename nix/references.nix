# The outputs of a set's packages, as a list of store paths, for nixery-popcount: of every
# derivation in the set itself and in the nested sets that say recurseForDerivations. What fails
# to evaluate is left out.
#
# `request` is JSON: { system, source } as realise.nix takes them.
{ request, findSet ? import ./set.nix }:
let
  inherit (builtins) attrValues concatMap isAttrs tryEval unsafeDiscardStringContext;

  set = findSet {
    asked = builtins.fromJSON request;
    within = stage: value: value;
    refuse = value: throw "this package set can't be used as it is configured: ${value.error}";
  };

  # tryEval catches what sets mark broken and unfree packages with: throw and assert.
  attempt = fallback: value:
    let tried = tryEval value; in if tried.success then tried.value else fallback;

  isDerivation = value: attempt false ((value.type or null) == "derivation");

  output = derivation: name:
    attempt [ ] (let path = derivation.${name}.outPath; in
      builtins.seq path [ (unsafeDiscardStringContext path) ]);

  collect = child:
    let value = attempt null child; in
    if !isAttrs value then [ ]
    else if isDerivation value then concatMap (output value) (attempt [ ] (value.outputs or [ "out" ]))
    else if attempt false (value.recurseForDerivations or false) then concatMap collect (attrValues value)
    else [ ];
in
concatMap collect (attrValues set)
