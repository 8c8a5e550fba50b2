# Fake packages: real derivations (so that store paths, string contexts and
# dependency walks are real) that nothing ever builds.
{ lib, system ? "x86_64-linux" }:
let
  drv = { pname, version ? "0", dependencies ? [ ], passthru ? { }, meta ? { }, ... }@a:
    derivation { inherit system; name = "${pname}-${version}"; builder = "/stub"; args = map toString dependencies; }
    // { inherit pname version dependencies meta; args = a; } // passthru;
  py = names: lib.genAttrs names (n: drv { pname = "python3.13-${n}"; });
  python3Packages = py [
    "anyio" "cronsim" "cryptography" "h11" "jinja2" "mcp" "msgspec" "setuptools" "sqlite-utils" "starlette"
    "structlog" "trio" "tzdata"
  ] // {
    hypercorn = drv { pname = "python3.13-hypercorn"; dependencies = [ python3Packages.h11 ]; };
    toPythonModule = package: package;
    buildPythonApplication = drv;
  };
  pkgs = lib.genAttrs [ "nixos-container" "util-linux" "e2fsprogs" "findutils" "git" "nixfmt-tree" "systemd" "nix" "bash" ] (n: drv { pname = n; }) // {
    inherit lib python3Packages;
    claude-code = drv { pname = "claude-code"; meta.mainProgram = "claude"; };
    python3.withPackages = choose: drv { pname = "python3-with"; dependencies = choose python3Packages; };
    stdenv.hostPlatform = { inherit system; };
    writeText = name: text: drv { pname = name; passthru = { inherit text; }; };
    runCommand = name: env: script: drv { pname = name; passthru = { inherit script; }; };
    closureInfo = { rootPaths }: drv { pname = "closure-info"; dependencies = rootPaths; };
    # The script and the nodes are looked at as far as they can be without NixOS' test driver.
    testers.runNixOSTest = t: builtins.seq (builtins.stringLength t.testScript) (builtins.seq (builtins.attrNames t.nodes) (drv { pname = "vm-test-run-${t.name}"; }));
    callPackage = f: extra:
      let g = if lib.isFunction f then f else import f; in
      g (builtins.intersectAttrs (lib.functionArgs g) pkgs // extra);
  };
in
pkgs
