r"""Write the attempts of --workdir for other tools, or its profiles for certify.py.

    python scripts/export.py --workdir=/tmp/run --to=rollouts.jsonl
    python scripts/export.py --workdir=/tmp/run --to=log.eval --format=inspect
    python scripts/export.py --workdir=/tmp/run --profiles=profiles.csv

Formats: fr (one JSON object per line, docs/import.md has its fields), vllm, openai,
trl, verl, prime and inspect, as scripts/import.py reads them. The model is not loaded.
"""

from absl import flags

from fr import cli

cli.define_flags(model=False)
flags.DEFINE_string("to", None, "File to write.")
flags.DEFINE_string(
    "format", "fr", "Format of --to: fr, vllm, openai, trl, verl, prime or inspect."
)
flags.DEFINE_string(
    "stage", "rollouts", "Attempts to write: rollouts, attempts, evaluation, online."
)
flags.DEFINE_string("profiles", None, "Profile table (.csv) to write.")


def main() -> None:
    """Write and print how much."""
    given = flags.FLAGS
    cli.require(workdir=given.workdir)
    if not given.profiles:
        cli.require(to=given.to)
    from fr.exchange.exporting import export_attempts, export_profiles

    if given.to:
        count = export_attempts(given.workdir, given.to, given.format, given.stage)
        print(f"{count} attempts of {given.stage}/ are in {given.to}")
    if given.profiles:
        count = export_profiles(given.workdir, given.profiles)
        print(f"profiles of {count} failed problems are in {given.profiles}")


if __name__ == "__main__":
    cli.run(main, alone=False)
