# What tests/nix reads: the modules over the stand-in for nixpkgs, as plain data. On a host, `nix flake check` is the judge.
#   nix-instantiate --eval --strict --json --arg source ./folder --arg more "{ … }" cases.nix
{
  source ? null,
  more ? { },
}:
let
  root = toString ../..;
  nixpkgs = (import ./stub-nixpkgs/flake.nix).outputs { self = { }; } // {
    outPath = "/nix/store/nixpkgs";
    narHash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
  };
  self = {
    outPath = root;
    narHash = "sha256-BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB=";
  } // (import ../../flake.nix).outputs { inherit self nixpkgs; };
  inherit (nixpkgs) lib;

  host = (lib.nixosSystem {
    modules = [
      self.nixosModules.default
      { services.hyperhive.enable = true; }
      more
    ];
  }).config;
  agent = (self.lib.mkAgent {
    inherit source;
    name = "iris";
  }).config;
  failed = config: map (each: each.message) (builtins.filter (each: !each.assertion) config.assertions);
  # Touch every value that is set, so that an unknown option or a wrong type anywhere is an error.
  force = value:
    if lib.isDerivation value then builtins.seq value.drvPath null
    else if builtins.isAttrs value then builtins.foldl' (_: name: force value.${name}) null (builtins.attrNames value)
    else if builtins.isList value then builtins.foldl' (_: force) null value
    else builtins.seq value null;
in
{
  host = builtins.seq (force (removeAttrs host [ "system" ])) {
    failed = failed host;
    units = builtins.mapAttrs (_: unit: { inherit (unit) text wantedBy; }) host.systemd.units;
    settings = builtins.mapAttrs (_: file: file.text) host.environment.etc;
    users = builtins.mapAttrs (_: user: { inherit (user) uid group isSystemUser; }) host.users.users;
    groups = builtins.mapAttrs (_: group: { inherit (group) gid members; }) host.users.groups;
    folders = host.systemd.tmpfiles.rules;
  };
  checks = builtins.mapAttrs (_: check: builtins.isString check.drvPath) self.checks.x86_64-linux;
  agent = builtins.seq (force (removeAttrs agent [ "system" "assertions" ])) {
    failed = failed agent;
    options = removeAttrs agent.hyperhive [ "harness" "claude" "packages" ];
    claude = agent.hyperhive.claude != null;
    packages = map (package: package.pname) agent.environment.systemPackages;
    unit = agent.systemd.services.hyperhive-harness.serviceConfig;
    environment = agent.systemd.services.hyperhive-harness.environment;
    users = builtins.mapAttrs (_: user: user.uid) agent.users.users;
    name = agent.networking.hostName;
    toplevel = lib.isDerivation agent.system.build.toplevel;
  };
}
