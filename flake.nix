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

      nixosModules.default =
        { pkgs, lib, ... }:
        {
          imports = [ ./nix/module.nix ];
          services.hyperhive = {
            packages = lib.mapAttrs (_: lib.mkDefault) (
              removeAttrs self.packages.${pkgs.stdenv.hostPlatform.system} [ "default" ]
            );
            inputs = lib.mapAttrs (_: input: lib.mapAttrs (_: lib.mkDefault) input) {
              hyperhive = { path = "${self}"; nar_hash = self.narHash; };
              nixpkgs = { path = "${nixpkgs}"; nar_hash = nixpkgs.narHash; };
            };
          };
        };

      # What the flakes that privd writes call, once for each agent: its system, from a folder with agent.toml and,
      # where it wants more than every agent has, agent.nix.
      lib.mkAgent =
        {
          name,
          source,
          system ? "x86_64-linux",
        }:
        nixpkgs.lib.nixosSystem {
          inherit system;
          specialArgs = {
            inherit source;
            agentName = name;
          };
          modules = [
            ./nix/agent.nix
            { hyperhive.harness = nixpkgs.lib.mkDefault self.packages.${system}.harness; }
          ]
          ++ nixpkgs.lib.optional (builtins.pathExists (source + "/agent.nix")) (source + "/agent.nix");
        };

      checks = eachSystem (pkgs: import ./nix/tests/checks.nix { inherit self nixpkgs pkgs; });
      formatter = eachSystem (pkgs: pkgs.nixfmt-tree);
    };
}
