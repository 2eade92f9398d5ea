"""Print the settings of a config, those first that differ from the defaults.

    python scripts/config.py --config=configs/quickstart.py
    python scripts/config.py --config=configs/quickstart.py --changes
    python scripts/config.py --config=configs/quickstart.py --json

Settings are resolved: the file, then --config.NAME=VALUE and --model, then every check
that a run makes before it loads a model. The text is YAML, and needs no jax.
"""

from absl import flags

from fr import cli

cli.define_flags(model=False, workdir=False)
flags.DEFINE_string("model", None, "Short for --config.specialist.")
flags.DEFINE_bool("changes", False, "Print what differs from the defaults alone.")
flags.DEFINE_bool("json", False, "Print JSON: changes and config.")


def main() -> None:
    """Resolve, check and print."""
    given, config = flags.FLAGS, cli.frozen_config()
    from fr.config_text import changes_text, check_known, config_json, config_text
    from fr.workdir import to_json

    check_known(config)
    if given.json:
        print(to_json(config_json(config)), end="")
        return
    print(changes_text(config))
    if not given.changes:
        print(f"\n{config_text(config)}")


if __name__ == "__main__":
    cli.run(main)
