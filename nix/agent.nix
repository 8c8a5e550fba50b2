# The system of one agent: what every cage has, and the options `hyperhive.*`, which have the names of agent.toml's keys.
#
# agent.toml is what counts: root reads it, the operator is shown what it changes, and the cage gets it as
# /etc/hyperhive/agent.json, whatever is said here. The options are there so that agent.nix can read them. It may repeat
# a value; one that says otherwise is refused while it is built, before anything is switched.
{
  config,
  lib,
  pkgs,
  agentName,
  source,
  ...
}:
let
  inherit (lib) mkOption types;
  cfg = config.hyperhive;
  said = builtins.fromTOML (builtins.readFile (source + "/agent.toml"));

  strings = types.listOf types.str;
  limit = types.nullOr (types.either types.ints.positive (types.enum [ "unlimited" ]));
  option =
    type: default: description:
    mkOption { inherit type default description; };
  table =
    description: options:
    mkOption {
      inherit description;
      default = { };
      type = types.submodule { inherit options; };
    };
  unset = description: option limit null "${description} Null is the hive's own bound.";

  # Everything that agent.toml can say. A key that is new there and missing here is an error in every build.
  settings = {
    runner = option (types.nullOr (types.enum [ "claude" "demo" ])) null "What drives the turns. Null is the hive's own.";
    model = option types.str "haiku" "The model, unless the operator takes another one for a while.";
    role_prompt = option (types.nullOr types.str) null "The file beside agent.toml that holds the role prompt.";
    icon = option types.str "" "A sign or two that stand for the agent.";
    pronouns = option types.str "" "How others speak of it.";
    account = option types.str "default" "The model account that pays.";
    allowed_recipients = option (types.nullOr strings) null "Whom it may write to. Null is everyone.";
    allowed_commands = option (types.nullOr strings) null "Shell commands that it may run. Null is every command.";
    environment = option (types.attrsOf types.str) { } "Variables of the agent's programs.";
    mcp_servers = option (types.attrsOf types.anything) { } "Further MCP servers: command and environment.";
    reminders = option (types.listOf types.anything) [ ] "Standing reminders.";
    egress = table "Where it may connect to, and how much." {
      hosts = option strings [ ] "Hosts and ports beside the model's.";
      connections_max = unset "Open at once.";
      out_mib_per_hour_max = unset "Sent.";
      in_mib_per_hour_max = unset "Fetched.";
    };
    limits = table "What the cage may use at most." {
      memory_mib_max = unset "Memory.";
      tasks_max = unset "Processes and threads.";
      cpu_percent_max = unset "Of one processor.";
      files_max = unset "Open at once, by each process.";
      disk_mib_max = unset "Of what it keeps.";
    };
  };
  names = builtins.attrNames settings;
  # The same options with agent.toml alone: what counts.
  deployed = (lib.evalModules { modules = [ { options = settings; config = said; } ]; }).config;
  otherwise = builtins.filter (name: cfg.${name} != deployed.${name}) names;

  python = pkgs.python3.withPackages (packages: [ (packages.toPythonModule cfg.harness) ]);
in
{
  options.hyperhive = settings // {
    packages = option (types.listOf types.package) [ ] "Programs on the agent's PATH.";
    allowedRecipients = option (types.nullOr strings) cfg.allowed_recipients "The older name of allowed_recipients.";
    harness = mkOption {
      type = types.package;
      description = "The program that drives the turns.";
    };
    claude = option (types.nullOr types.package) (
      if deployed.runner == "claude" then pkgs.claude-code else null
    ) "Claude Code, for an agent whose agent.toml says that it is driven by it.";
  };

  config = {
    hyperhive = builtins.mapAttrs (_: lib.mkDefault) said;

    assertions = [
      {
        assertion = otherwise == [ ] && cfg.allowedRecipients == deployed.allowed_recipients;
        message =
          "agent.nix says hyperhive.${lib.concatStringsSep ", hyperhive." (otherwise ++ [ "allowedRecipients" ])}"
          + " otherwise than agent.toml, which is what counts: say it there.";
      }
    ];

    boot.isNspawnContainer = true;
    networking.hostName = lib.mkForce agentName;
    networking.useDHCP = false;
    nix.enable = false; # the host builds; its Nix daemon is covered up
    system.stateVersion = lib.mkDefault "26.05";

    users.mutableUsers = false;
    users.users = {
      agent = {
        isNormalUser = true;
        uid = 1000;
        group = "agent";
        home = "/agents/${agentName}/state";
      };
      harness = {
        isSystemUser = true;
        uid = 1001;
        group = "harness";
        home = "/agents/${agentName}/harness";
      };
    };
    users.groups = {
      agent.gid = 1000;
      harness.gid = 1001;
    };

    environment.systemPackages = cfg.packages ++ [ pkgs.bash pkgs.git ];
    systemd.tmpfiles.rules = lib.optional (cfg.claude != null) "L+ /opt/hive/claude/claude - - - - ${lib.getExe cfg.claude}";

    # The first process of any other kind of cage; here systemd starts it, and ends the cage with it.
    systemd.services.hyperhive-harness = {
      description = "hyperhive: harness of ${agentName}";
      wantedBy = [ "multi-user.target" ];
      path = [ "/run/current-system/sw" ];
      environment.HIVE_DEFAULT_MODEL = cfg.model;
      unitConfig = {
        SuccessAction = "exit";
        FailureAction = "exit";
      };
      serviceConfig = {
        ExecStart = "${python}/bin/python3 -I -m harness.init --filter /etc/hyperhive/syscalls.bpf";
        PassEnvironment = "HIVE_AGENT HIVE_STOP_GRACE_S HIVE_INIT_TASKS_MAX HIVE_INIT_FILES_MAX HIVE_INIT_FILE_BYTES_MAX HIVE_INIT_DATA_BYTES_MAX";
        Restart = "no";
        KillMode = "mixed";
        TimeoutStopSec = "11min";
        StandardOutput = "journal+console";
        StandardError = "journal+console";
        CapabilityBoundingSet = "CAP_SETUID CAP_SETGID CAP_SETPCAP";
        NoNewPrivileges = true;
      };
    };
  };
}
