# Nixery as a service of NixOS:
#   imports = [ ./module.nix ];
#   services.nixery = { enable = true; settings.NIXERY_CHANNEL = "nixos-unstable"; };
# The service is that of systemd/nixery.service, where the reasons for its settings are; a test
# compares the two.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.nixery;
  inherit (lib) mkEnableOption mkIf mkOption types;
in
{
  options.services.nixery = {
    enable = mkEnableOption "Nixery, a container registry whose images are made on demand";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = "Nixery of this checkout";
      description = "The package whose twistd is run.";
    };

    port = mkOption {
      type = types.port;
      default = 8080;
      description = "Port to listen on; systemd holds it while the daemon is restarted.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether others than this machine reach the port.";
    };

    settings = mkOption {
      type = types.attrsOf (types.oneOf [ types.str types.path types.int types.float ]);
      default = { };
      example = { NIXERY_CHANNEL = "nixos-unstable"; NIXERY_MAX_BUILDS = 8; BUCKET = "my-images"; };
      description = "Environment variables, as docs/settings.md lists them. No secrets: all users can read these.";
    };

    environmentFile = mkOption {
      type = types.nullOr types.path;
      default = null;
      example = "/run/keys/nixery";
      description = "A file with more of them, as lines NAME=value.";
    };
  };

  config = mkIf cfg.enable {
    users.users.nixery = {
      description = "Nixery";
      isSystemUser = true;
      group = "nixery";
      home = "/var/lib/nixery";
    };
    users.groups.nixery = { };

    networking.firewall.allowedTCPPorts = if cfg.openFirewall then [ cfg.port ] else [ ];

    systemd.sockets.nixery = {
      description = "The port of Nixery, a container registry whose images are made on demand";
      wantedBy = [ "sockets.target" ];
      socketConfig = {
        ListenStream = cfg.port;
        NoDelay = true;
      };
    };

    systemd.services.nixery = {
      description = "Nixery, a container registry whose images are made on demand";
      wants = [ "network-online.target" ];
      after = [ "network-online.target" "nix-daemon.socket" ];
      wantedBy = [ "multi-user.target" ];
      environment = builtins.mapAttrs (_: toString) cfg.settings // {
        PYTHONFAULTHANDLER = "1";
        PYTHONMALLOC = "malloc"; # Python's own would keep most of what a crowd took
      };
      unitConfig = {
        StartLimitIntervalSec = 120;
        StartLimitBurst = 10;
      };
      serviceConfig = {
        Type = "notify";
        ExecStart = "${cfg.package}/bin/twistd --nodaemon --pidfile= nixery";
        ExecReload = "${pkgs.coreutils}/bin/kill -HUP $MAINPID";
        Sockets = "nixery.socket";

        User = "nixery";
        Group = "nixery";
        StateDirectory = "nixery";
        StateDirectoryMode = "0750";
        UMask = "0077";

        WatchdogSec = 60;
        LimitCORE = 0;
        TimeoutStartSec = 300;
        Restart = "on-failure";
        RestartSec = 2;
        KillMode = "mixed";
        TimeoutStopSec = 60;
        LimitNOFILE = 65536;
        OOMPolicy = "continue";

        ProtectSystem = "strict";
        ProtectHome = true;
        ReadWritePaths = "-/nix";
        PrivateTmp = true;
        PrivateDevices = true;
        PrivateMounts = true;
        PrivateUsers = true;
        ProtectProc = "invisible";
        ProtectControlGroups = true;
        ProtectKernelModules = true;
        ProtectClock = true;
        NoNewPrivileges = true;
        CapabilityBoundingSet = "";
        AmbientCapabilities = "";
        RestrictSUIDSGID = true;
        RestrictRealtime = true;
        RestrictAddressFamilies = "AF_UNIX AF_INET AF_INET6 AF_NETLINK";
        RestrictNamespaces = "user mnt pid net ipc uts";
        LockPersonality = true;
        RemoveIPC = true;
        SystemCallArchitectures = "native";
        SystemCallFilter = "@system-service @mount seccomp sethostname setdomainname";
        SystemCallErrorNumber = "EPERM";
      } // (if cfg.environmentFile == null then { } else { EnvironmentFile = cfg.environmentFile; });
    };
  };
}
