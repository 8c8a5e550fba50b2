# The hive on a NixOS host. Units, shared folders and users are those of `hivectl install --systemd`, read from the same
# files; what is different here is said below, with its reason.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkEnableOption mkIf mkOption types;
  cfg = config.services.hyperhive;
  shipped = ../hivectl/install;
  state = "/var/lib/hyperhive";
  run = "/run/hyperhive";
  daemons = [ "privd" "brokerd" "egressd" "webd" ];

  option =
    type: default: description:
    mkOption { inherit type default description; };
  readLines = file: builtins.filter (line: builtins.isString line && line != "" && builtins.substring 0 1 line != "#") (
    builtins.split "\n" (builtins.readFile file)
  );

  # One interpreter a process, with what that process may load and nothing else.
  python = name: "${pkgs.python3.withPackages (all: [ (all.toPythonModule cfg.packages.${name}) ])}/bin/python3";
  programs = {
    "privd.boxing" = python "privd";
    "privd.cages.launch" = python "privd";
    hivectl = python "hivectl";
  } // lib.genAttrs daemons python;
  words = builtins.attrNames programs;
  unit = name: builtins.replaceStrings
    (map (word: "/opt/hyperhive/python/bin/python -I -m ${word} ") words)
    (map (word: "${programs.${word}} -I -m ${word} ") words)
    (builtins.readFile (shipped + "/units/${name}"));

  # What root's part needs here and nowhere else: Nix, nixos-container, and the places that these write.
  privdHere = ''

    [Service]
    # chattr -i of var/empty, in the root of a container that is destroyed.
    CapabilityBoundingSet=CAP_LINUX_IMMUTABLE
    ReadWritePaths=/etc/nixos-containers /var/lib/nixos-containers
    ReadWritePaths=/nix/var/nix/profiles/per-container /nix/var/nix/gcroots/per-container
    BindReadOnlyPaths=/run/current-system
    BindPaths=/run/lock /run/systemd/system
    Environment=NIX_REMOTE=daemon
    # What is evaluated for an agent is code that the operator approved and root did not write.
    MemoryMax=8G
    TasksMax=1024
    TimeoutStartSec=infinity
  '';
  own = {
    "hive-privd.service" = unit "hive-privd.service" + privdHere;
    "hive-webd-http.socket" = unit "hive-webd-http.socket" + ''

      [Socket]
      ListenStream=
      ListenStream=${cfg.web.host}:${toString cfg.web.port}
    '';
  };
  # A cage is a NixOS container here, started by nixos-container.
  without = [ "hive-cage@.service" ];
  units = builtins.filter (name: !(builtins.elem name without)) (builtins.attrNames (builtins.readDir (shipped + "/units")));

  # Tables of plain values and of tables: all that the daemons' settings need. A string of JSON is one of TOML.
  toml = path: table:
    let
      keys = builtins.attrNames (lib.filterAttrs (_: value: value != null) table);
      isTable = key: builtins.isAttrs table.${key};
      plain = builtins.filter (key: !(isTable key)) keys;
    in
    lib.optionalString (path != "" && plain != [ ]) "\n[${path}]\n"
    + lib.concatMapStringsSep "" (key: "${key} = ${builtins.toJSON table.${key}}\n") plain
    + lib.concatMapStringsSep "" (key: toml (if path == "" then key else "${path}.${key}") table.${key}) (
      builtins.filter isTable keys
    );
  # A browser holds no ceremony with a passkey at an address in numbers.
  scheme = if cfg.web.https then "https" else "http";
  local = "localhost" + lib.optionalString (cfg.web.port != (if cfg.web.https then 443 else 80)) ":${toString cfg.web.port}";
  operators = {
    operator_uids = [ 0 ];
    admin_gid = cfg.ids.admin;
  };
  settings = {
    privd = {
      inherit state run;
      uid_first = cfg.uidFirst;
      environment = "${cfg.packages.harness}";
      backend = "nixos";
      cages = "units"; # so that systemd makes boxes, which privd has no power to
      runner = cfg.runner;
      stop_grace_s = cfg.stopGraceSeconds;
      rebuild_stale = cfg.rebuildStale;
      approvers_required = cfg.approversRequired;
      passkey_origins = map (name: "${scheme}://${name}") (
        builtins.filter (name: builtins.match "[0-9.]+(:[0-9]+)?|\\[.*" name == null) ([ local ] ++ cfg.web.hosts)
      );
      claude = if cfg.claude == null then null else "${cfg.claude}/bin";
      limits = lib.filterAttrs (_: value: value != null) cfg.limits;
      peers = operators // {
        broker_uid = cfg.ids.broker;
        web_uid = cfg.ids.web;
        egress_uid = cfg.ids.egress;
      };
      model_api.key_file = if cfg.modelKeyFile == null then null else "/run/credentials/hive-privd.service/model-key";
      nixos = cfg.inputs;
    };
    brokerd = operators // {
      inherit run;
      state = "${state}/broker";
      web_uid = cfg.ids.web;
    };
    webd = operators // {
      inherit run;
      state = "${state}/web";
      name = config.networking.hostName;
      inherit (cfg.web) host port hosts https;
    };
    egressd = {
      inherit run;
      model_hosts = cfg.modelHosts;
      operator_uids = [ 0 cfg.ids.web ];
      admin_gid = cfg.ids.admin;
      broker_uid = cfg.ids.broker;
    };
  };
  input = description: {
    path = option types.str "" "${description}: a folder of the store.";
    nar_hash = option types.str "" "Its hash as Nix writes it.";
  };
in
{
  options.hyperhive.enable = mkEnableOption "the hive, as services.hyperhive.enable does";
  options.services.hyperhive = {
    enable = mkEnableOption "the hive";
    packages = lib.genAttrs (daemons ++ [ "harness" "hivectl" ]) (name: mkOption {
      type = types.package;
      description = "The package of ${name}.";
    });
    inputs = {
      hyperhive = input "What agents' systems get the harness from";
      nixpkgs = input "What agents' systems are built from";
    };
    admins = option (types.listOf types.str) [ ] "Users who may act as the operator.";
    runner = option (types.enum [ "claude" "demo" ]) "demo" "What drives an agent that does not say.";
    claude = option (types.nullOr types.package) null "Claude Code, where agents may be driven by it.";
    modelKeyFile = option (types.nullOr types.str) null "A file with the model's key, for each new agent's own folder.";
    modelHosts = option (types.listOf types.str) [ "api.anthropic.com:443" ] "Where every agent may connect to.";
    rebuildStale = option types.bool true "Whether cages of an older hyperhive or nixpkgs are rebuilt by themselves.";
    approversRequired = option (types.ints.between 1 2) 1 "How many keys must agree, once `hivectl enrol` let one decide.";
    stopGraceSeconds = option (types.ints.between 1 600) 30 "How long a turn may take to end when its cage is stopped.";
    limits = lib.genAttrs [ "memory_mib_max" "tasks_max" "cpu_percent_max" "files_max" "disk_mib_max" ] (
      name: option (types.nullOr types.ints.positive) null "${name} of an agent that does not say. Null is the hive's own."
    );
    web = {
      host = option types.str "127.0.0.1" "Where the dashboard listens.";
      port = option types.port 7000 "And at which port.";
      hosts = option (types.listOf types.str) [ ] "Further names by which browsers reach it.";
      https = option types.bool false "Whether a proxy in front of it ends TLS.";
    };
    uidFirst = option types.ints.positive 768081920 "The first uid of the block that cages take their users from.";
    ids = {
      admin = option types.ints.positive 1880 "The group of those who may act as the operator.";
      broker = option types.ints.positive 1881 "brokerd's user and group.";
      web = option types.ints.positive 1882 "webd's user and group.";
      egress = option types.ints.positive 1883 "egressd's user and group.";
    };
  };

  config = mkIf (cfg.enable || config.hyperhive.enable) {
    assertions = [
      {
        assertion = builtins.elem cfg.web.host [ "127.0.0.1" "::1" "[::1]" ] || cfg.web.https;
        message = "services.hyperhive.web.host is not loopback: say web.https, and put a proxy that ends TLS in front.";
      }
      {
        assertion = !(builtins.any (name: lib.hasPrefix "hive-" name) (config.nix.settings.trusted-users or [ ]));
        message = "No daemon of the hive may be a trusted user of Nix: that is root.";
      }
      {
        assertion = cfg.runner != "claude" || cfg.claude != null;
        message = "services.hyperhive.runner is claude: say which package services.hyperhive.claude is.";
      }
    ];

    boot.enableContainers = true;
    environment.systemPackages = [ cfg.packages.hivectl pkgs.nixos-container ];
    nix.settings.experimental-features = [ "nix-command" "flakes" ];
    nix.settings.accept-flake-config = false;

    users.groups = {
      hive-admin = {
        gid = cfg.ids.admin;
        members = cfg.admins;
      };
      hive-broker.gid = cfg.ids.broker;
      hive-web.gid = cfg.ids.web;
      hive-egress.gid = cfg.ids.egress;
    };
    users.users = lib.mapAttrs' (short: description: lib.nameValuePair "hive-${short}" {
      inherit description;
      isSystemUser = true;
      uid = cfg.ids.${short};
      group = "hive-${short}";
    }) { broker = "hyperhive broker"; web = "hyperhive dashboard"; egress = "hyperhive way out"; };

    environment.etc = lib.mapAttrs' (name: table: lib.nameValuePair "hyperhive/${name}.toml" {
      text = toml "" table;
    }) settings;
    systemd.tmpfiles.rules = readLines (shipped + "/tmpfiles.conf") ++ [
      "d /etc/nixos-containers 0755 root root -"
      "d /var/lib/nixos-containers 0700 root root -"
      "d /nix/var/nix/profiles/per-container 0700 root root -"
      "d /nix/var/nix/gcroots/per-container 0755 root root -"
    ];
    systemd.units = lib.genAttrs units (name: {
      text = (own.${name} or (unit name))
        + lib.optionalString (name == "hive-privd.service" && cfg.modelKeyFile != null) "LoadCredential=model-key:${cfg.modelKeyFile}\n";
      wantedBy = lib.optional (name == "hyperhive.target") "multi-user.target";
    });
  };
}
