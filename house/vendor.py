"""Copies the dashboard's browser modules from node_modules to webd/static/vendor.

Browsers resolve no bare module name without an import map, and our content policy allows no inline one, so every
`from "preact"` becomes `from "./preact.js"`. A declaration file beside each module leads the type checker back to
the package. Nothing is bundled or minified here; what is copied is what the lock file pinned.
"""

import re
import shutil
import sys
from pathlib import Path

# What webd's own modules may import: bare name, then the file inside node_modules.
MODULES = {
    "preact": "preact/dist/preact.mjs",
    "preact/hooks": "preact/hooks/dist/hooks.mjs",
    "@preact/signals-core": "@preact/signals-core/dist/signals-core.mjs",
    "@preact/signals": "@preact/signals/dist/signals.mjs",
    "htm": "htm/dist/htm.mjs",
}
HAS_DEFAULT_EXPORT = frozenset({"htm"})
LICENSED_PACKAGES = ("preact", "@preact/signals", "@preact/signals-core", "htm")

IMPORT = re.compile(r"""(\bfrom\s*|\bimport\s*)(["'])([^"'./][^"']*)\2""")
SOURCE_MAP = re.compile(r"^//# sourceMappingURL=.*$", re.MULTILINE)


def file_name(module: str) -> str:
    """`@preact/signals` is served as `signals.js`, `preact/hooks` as `hooks.js`."""
    return module.rpartition("/")[2] + ".js"


def with_relative_imports(source: str) -> str:
    """Every import of a vendored module made relative; any other bare import is an error, not a broken page."""

    def relative(found: re.Match[str]) -> str:
        if found[3] not in MODULES:
            raise SystemExit(f"house/vendor.py: import of {found[3]!r}, which is not among MODULES")
        return f"{found[1]}{found[2]}./{file_name(found[3])}{found[2]}"

    return SOURCE_MAP.sub("", IMPORT.sub(relative, source)).rstrip() + "\n"


def declaration(module: str) -> str:
    """Types of a vendored module, for `tsc --checkJs`."""
    text = f'export * from "{module}";\n'
    if module in HAS_DEFAULT_EXPORT:
        text += f'export {{ default }} from "{module}";\n'
    return text


def vendor(packages: Path, target: Path) -> None:
    """Fill `target` anew and put it in place whole."""
    fresh = target.with_name(target.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for module, path in MODULES.items():
        source = (packages / path).read_text(encoding="utf-8")
        (fresh / file_name(module)).write_text(with_relative_imports(source), encoding="utf-8")
        (fresh / file_name(module)).with_suffix(".d.ts").write_text(declaration(module), encoding="utf-8")
    licenses = (
        f"{name}\n\n{(packages / name / 'LICENSE').read_text(encoding='utf-8')}" for name in LICENSED_PACKAGES
    )
    (fresh / "LICENSES.txt").write_text("\n\n".join(licenses), encoding="utf-8")
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


if __name__ == "__main__":
    checkout = Path(sys.argv[1])
    vendor(checkout / "node_modules", checkout / "webd" / "static" / "vendor")
