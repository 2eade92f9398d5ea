"""Write the pages docs/configuration*.md from the dataclasses.

    python docs/generate/configuration.py            # write
    python docs/generate/configuration.py --check    # exit code 1 if a page is stale

Defaults come from `fr.config.Config`, meanings from the text of `--help`.
"""

import dataclasses
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(DOCS.parent))

from fr.config import Config  # noqa: E402
from fr.help import settings_text  # noqa: E402

# Groups of each page, the others are on the first one; title and introduction of each.
_PAGES = {
    "configuration.md": (),
    "configuration_routing.md": (
        "diagnosis",
        "intervention",
        "routing",
        "clusters",
        "atlas",
    ),  # fmt: skip
    "configuration_policy.md": ("policy", "rewards"),
    "configuration_training.md": (
        "training",
        "pretraining",
        "lora",
        "preference",
        "study",
        "architecture",
    ),  # fmt: skip
}
_HEAD = {
    "configuration.md": (
        "# Configuration\n\n"
        "A config file has a function `get_config()` that changes what differs from\n"
        "`fr.config.default()`. `--config.NAME=VALUE` overrides one setting.\n"
        "The pages are generated from the dataclasses of `fr/config`. More groups:\n"
        "[diagnosis and routing](configuration_routing.md),\n"
        "[policy optimisation](configuration_policy.md),\n"
        "[other training](configuration_training.md).\n"
    ),
    "configuration_routing.md": (
        "# Configuration: diagnosis and routing\n\n"
        "Generated, as the first page of the [configuration](configuration.md).\n"
    ),
    "configuration_policy.md": (
        "# Configuration: policy optimisation\n\n"
        "Generated, as the first page of the [configuration](configuration.md).\n"
        "Equations: [algorithms](algorithms.md), [rewards](rewards.md).\n"
    ),
    "configuration_training.md": (
        "# Configuration: other training\n\n"
        "Generated, as the first page of the [configuration](configuration.md).\n"
        "`pretraining` has the fields of `training`, with the defaults listed.\n"
    ),
}


def meanings() -> dict[str, str]:
    """Meanings in the text of `--help`, by setting without `config.`."""
    lines = settings_text().splitlines()
    found = {}
    for i, line in enumerate(lines):
        if match := re.match(r"  --config\.([\w.]+)=", line):
            after = lines[i + 1] if i + 1 < len(lines) else ""
            found[match[1]] = after.strip() if after.startswith("      ") else ""
    return found


def shown(value) -> str:
    """A default as code in a table."""
    text = repr(value).replace("|", "\\|")
    return f"`{text}`"


def section(name: str, values, said: dict[str, str], usual=None) -> list[str]:
    """Lines of one group; of `pretraining` the fields that differ from `usual`."""
    lines = [f"\n## {name}\n", "| setting | default | meaning |", "|---|---|---|"]
    for field in dataclasses.fields(values):
        value = getattr(values, field.name)
        if name == "pretraining" and value == getattr(usual, field.name):
            continue
        if not dataclasses.is_dataclass(value):
            key = field.name if name == "general" else f"{name}.{field.name}"
            meaning = said.get(key, "").replace("|", "\\|").replace("<", "&lt;")
            lines.append(f"| `{key}` | {shown(value)} | {meaning} |")
        elif name != "general":
            lines += section(f"{name}.{field.name}", value, said)[3:]
    return lines


def pages() -> dict[str, str]:
    """The pages, by name."""
    config, said = Config(), meanings()
    groups = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(Config)
        if dataclasses.is_dataclass(getattr(config, field.name))
    }
    placed = {name for names in _PAGES.values() for name in names}
    made = {}
    for page, names in _PAGES.items():
        lines = [] if names else section("general", config, said)
        for name in names or (n for n in groups if n not in placed):
            lines += section(name, groups[name], said, groups["training"])
        made[page] = _HEAD[page] + "\n".join(lines) + "\n"
    return made


def main() -> None:
    """Write the pages; with --check only compare."""
    stale = []
    for name, text in pages().items():
        path = DOCS / name
        if not path.exists() or path.read_text() != text:
            stale.append(name)
            if "--check" not in sys.argv:
                path.write_text(text)
    if stale:
        print("\n".join(stale))
        sys.exit("--check" in sys.argv)


if __name__ == "__main__":
    main()
