{
  description = "hyperhive: a swarm of coding agents, each in its own cage";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-26.05";

  outputs =
    { self, nixpkgs }:
    let
      systems = [
        "x86_64-linux"
        "aarch64-linux"
      ];
      eachSystem = use: nixpkgs.lib.genAttrs systems (system: use nixpkgs.legacyPackages.${system});
    in
    {
      packages = eachSystem (
        pkgs:
        let
          hive = pkgs.callPackage ./nix/package.nix { };
        in
        hive // { default = hive.hivectl; }
      );
      checks = eachSystem (pkgs: self.packages.${pkgs.stdenv.hostPlatform.system});
      formatter = eachSystem (pkgs: pkgs.nixfmt-tree);
    };
}
