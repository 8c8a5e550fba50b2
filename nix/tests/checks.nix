# `nix flake check -L` on a host: what only nixpkgs itself can say. tests/nix evaluates all of it over the stand-in.
{
  self,
  nixpkgs,
  pkgs,
}:
let
  inherit (nixpkgs) lib; # not pkgs.lib: only the flake's has nixosSystem
  inherit (pkgs.stdenv.hostPlatform) system;
  packages = removeAttrs self.packages.${system} [ "default" ];
  # Enough of a machine for a whole system, so that nixpkgs judges names, types and assertions.
  machine = {
    boot.loader.grub.enable = false;
    fileSystems."/" = {
      device = "none";
      fsType = "tmpfs";
    };
    system.stateVersion = lib.trivial.release;
  };
  host = lib.nixosSystem {
    inherit system;
    modules = [
      self.nixosModules.default
      machine
      { hyperhive.enable = true; }
    ];
  };
  agent = self.lib.mkAgent {
    inherit system;
    name = "iris";
    source = ./example;
  };
  # Evaluated whole, and not built.
  evaluates = whole: pkgs.writeText "evaluates" (builtins.unsafeDiscardStringContext whole.config.system.build.toplevel.drvPath);
  real = import ./conformance.nix { inherit lib; };
  recorded = lib.importJSON ./conformance.json;
in
packages
// {
  host-evaluates = evaluates host;
  agent-evaluates = evaluates agent;
  lib-conformance =
    assert lib.assertMsg (real == recorded) "nixpkgs' lib no longer gives what conformance.json records";
    pkgs.writeText "conformance" "ok";
  privd-closure = pkgs.runCommand "privd-closure" { info = pkgs.closureInfo { rootPaths = [ packages.privd ]; }; } ''
    if grep -E 'starlette|hypercorn|jinja2|httpx|-h11-|-mcp-|sqlite-utils' $info/store-paths; then exit 1; fi
    touch $out
  '';
}
