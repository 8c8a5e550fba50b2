# The NixOS options our modules set, and no others: setting an option that is
# not listed here fails the evaluation, which is what catches a typing mistake.
# Each was checked against nixpkgs by hand; `nix flake check` on a host checks
# it again, with the real declarations.
{ lib, pkgs, ... }:
let
  inherit (lib) mkOption;
  t = lib.types;
  opt = type: default: mkOption { inherit type default; };
  sub = options: t.attrsOf (t.submodule { inherit options; });
  unitCommon = {
    enable = opt t.bool true;
    description = opt t.str "";
    after = opt (t.listOf t.str) [ ];
    before = opt (t.listOf t.str) [ ];
    requires = opt (t.listOf t.str) [ ];
    wants = opt (t.listOf t.str) [ ];
    bindsTo = opt (t.listOf t.str) [ ];
    partOf = opt (t.listOf t.str) [ ];
    wantedBy = opt (t.listOf t.str) [ ];
    requiredBy = opt (t.listOf t.str) [ ];
    unitConfig = opt (t.attrsOf t.anything) { };
    restartTriggers = opt (t.listOf t.unspecified) [ ];
  };
  atom = t.oneOf [ t.bool t.int t.float t.str t.path t.package ];
  section = t.attrsOf (t.either atom (t.listOf atom));
in
{
  options = {
    assertions = opt (t.listOf t.unspecified) [ ];
    warnings = opt (t.listOf t.str) [ ];
    fileSystems = opt (t.attrsOf t.anything) { };
    boot = { loader.grub.enable = opt t.bool true; enableContainers = opt t.bool false; isContainer = opt t.bool false; isNspawnContainer = opt t.bool false; };
    environment = {
      etc = opt (sub { text = opt (t.nullOr t.lines) null; source = opt (t.nullOr t.path) null; mode = opt t.str "symlink"; }) { };
      systemPackages = opt (t.listOf t.package) [ ];
    };
    networking = {
      hostName = opt t.str "nixos";
      useDHCP = opt t.bool true;
      firewall = { enable = opt t.bool true; allowedTCPPorts = opt (t.listOf t.port) [ ]; };
    };
    nix = { enable = opt t.bool true; package = opt t.package pkgs.nix; settings = opt (t.attrsOf t.anything) { }; };
    system.stateVersion = opt t.str "26.05";
    systemd = {
      package = opt t.package pkgs.systemd;
      services = opt (sub (unitCommon // {
        path = opt (t.listOf (t.oneOf [ t.package t.str ])) [ ];
        environment = opt (t.attrsOf (t.nullOr (t.oneOf [ t.str t.path t.package ]))) { };
        serviceConfig = opt section { };
        script = opt t.lines "";
        preStart = opt t.lines "";
        restartIfChanged = opt t.bool true;
        stopIfChanged = opt t.bool true;
      })) { };
      units = opt (sub { text = opt t.lines ""; wantedBy = opt (t.listOf t.str) [ ]; }) { };
      sockets = opt (sub (unitCommon // { socketConfig = opt section { }; listenStreams = opt (t.listOf t.str) [ ]; })) { };
      slices = opt (sub (unitCommon // { sliceConfig = opt section { }; })) { };
      tmpfiles.rules = opt (t.listOf t.str) [ ];
    };
    users = {
      mutableUsers = opt t.bool true;
      groups = opt (sub { gid = opt (t.nullOr t.int) null; members = opt (t.listOf t.str) [ ]; }) { };
      users = opt (sub {
        description = opt t.str ""; isSystemUser = opt t.bool false; isNormalUser = opt t.bool false;
        uid = opt (t.nullOr t.int) null; group = opt t.str ""; extraGroups = opt (t.listOf t.str) [ ]; home = opt t.str "/var/empty";
      }) { };
    };
  };
}
