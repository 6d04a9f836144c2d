# Lists which of some packages a set has, by their names.
#
# `request` is JSON: { system, source } as in realise.nix, and `names`, of attributes.
{ request, findSet ? import ./set.nix }:
let
  inherit (builtins) concatStringsSep filter fromJSON isAttrs tryEval typeOf;

  asked = fromJSON request;

  reasons = {
    default = value: "there is no default.nix in it";
    flake = value: "it is a flake without legacyPackages or packages";
    system = value: "it has no packages for ${asked.system}";
    configuration = value:
      "it takes no ${concatStringsSep " and no " value.lacking}, which the operator has set for it";
  };

  set = findSet {
    inherit asked;
    within = stage: value: value;
    refuse = value: throw (reasons.${value.error} value);
  };

  # A package that fails in the way that sets mark broken ones does not count.
  isPackage = name:
    let value = tryEval (set.${name}.type or null == "derivation"); in value.success && value.value;
in
if isAttrs set then filter isPackage asked.names
else throw "it is a ${typeOf set} and not an attribute set"
