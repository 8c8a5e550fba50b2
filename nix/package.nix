# One package per process, each holding its own folder, protocol and runtime: what a process does not import is not in
# its closure. Root's package does not even build once a web stack or a database layer reaches it.
{ lib, python3Packages }:
let
  version = "0.1.0";
  python = python3Packages;
  everywhere = [
    python.msgspec
    python.structlog
    python.trio
  ];
  notForRoot = [
    python.anyio
    python.h11
    python.hypercorn
    python.jinja2
    python.mcp
    python.sqlite-utils
    python.starlette
  ];
  source =
    folder:
    lib.fileset.toSource {
      root = ../.;
      fileset = lib.fileset.unions (
        [
          ../pyproject.toml
          ../README.md
          ../LICENSE
          ../protocol
          ../runtime
          (../. + "/${folder}")
        ]
        ++ lib.optional (folder == "privd") ../boxes # it starts them, and nobody else does
      );
    };
  process =
    folder:
    {
      program ? "hive-${folder}",
      dependencies ? [ ],
      forbidden ? [ ],
    }:
    python.buildPythonApplication (
      {
        pname = "hyperhive-${folder}";
        inherit version;
        pyproject = true;
        src = source folder;
        build-system = [ python.setuptools ];
        dependencies = everywhere ++ dependencies;
        pythonImportsCheck = [ folder ];
        doCheck = false; # the suite needs every package at once: ./hive test
        # pyproject.toml declares every process; this package holds one.
        postInstall = ''
          find $out/bin -mindepth 1 ! -name "${toString program}" -delete
        '';
        meta = {
          description = "hyperhive: ${folder}";
          license = lib.licenses.mit;
          platforms = lib.platforms.linux;
        }
        // lib.optionalAttrs (program != null) { mainProgram = program; };
      }
      // lib.optionalAttrs (forbidden != [ ]) { disallowedRequisites = forbidden; }
    );
in
{
  privd = process "privd" {
    dependencies = [ python.cryptography ];
    forbidden = notForRoot;
  };
  brokerd = process "brokerd" {
    dependencies = [
      python.cronsim
      python.sqlite-utils
      python.tzdata
    ];
  };
  webd = process "webd" {
    dependencies = [
      python.h11
      python.jinja2
    ];
  };
  egressd = process "egressd" { dependencies = [ python.h11 ]; };
  # Started as a module by the first process of a cage.
  harness = process "harness" {
    program = null;
    dependencies = [
      python.anyio
      python.mcp
    ];
  };
  hivectl = process "hivectl" { program = "hivectl"; };
}
