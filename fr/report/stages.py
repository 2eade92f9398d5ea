"""What sampling and intervening left behind, as a person reads it in a terminal."""

from fr.report.tables import Table, number, span


def render_rollouts(summary: dict) -> str:
    """Counts and accuracy of the rollouts."""
    accuracy, grades = summary["accuracy"], summary["grades"]
    counts = ", ".join(f"{count} {grade.replace('_', ' ')}" for grade, count in grades.items() if count)
    return (
        f"  {summary['rollouts']} rollouts of {summary['problems']} problems: {_percent(accuracy)} right "
        f"{_interval(accuracy)}; {counts}; {number(100 * summary['truncated'])} % truncated\n"
        f"  {summary['failed_problems']} problems failed at least once"
    )


def render_failures(summary: dict) -> str:
    """How many failures were scored, and the mean of each feature over problems."""
    means = ", ".join(f"{name} {number(mean, 3)}" for name, mean in summary["features"].items())
    return (
        f"  {summary['failed_rollouts']} failed rollouts of {summary['failed_problems']} problems scored\n"
        f"  means over problems: {means}"
    )


def render_attempts(summary: dict) -> str:
    """The text of `attempts_table`."""
    return str(attempts_table(summary))


def attempts_table(summary: dict) -> Table:
    """Rescue rate, interval, attempts and share that fired, by operator."""
    rows = [
        [
            f"{name} *" if o["outside"] else name,
            str(o["n"]),
            _percent(o),
            _interval(o),
            f"{number(100 * o['fired'])} %" if o["fired"] else "–",
        ]
        for name, o in summary["operators"].items()
    ]
    notes = []
    if any(o["outside"] for o in summary["operators"].values()):
        notes.append("  * uses truth from outside of the model")
    for why, names in _by_reason(summary["left_out"]).items():
        notes.append(f"  left out, {why}: {', '.join(names)}")
    alone, vote = (summary["without_verifier"][name] for name in ("rollout", "majority"))
    notes.append(
        f"  without a verifier, of all problems: a single rollout is right in {_percent(alone)} "
        f"{_interval(alone)}, the answer that most give in {_percent(vote)} {_interval(vote)}"
    )
    chosen = {"weighted": "of the vote weighted by confidence", "surest": "of the surest rollout"}
    for name in (name for name in chosen if name in summary["without_verifier"]):
        rate = summary["without_verifier"][name]
        notes.append(f"  the answer {chosen[name]} in {_percent(rate)} {_interval(rate)}")
    header = ["operator", "attempts", "rescued", "95 % interval", "fired"]
    return Table(header, rows, note="\n".join(notes))


def _by_reason(left_out: dict[str, str]) -> dict[str, list[str]]:
    return {why: [n for n, w in left_out.items() if w == why] for why in dict.fromkeys(left_out.values())}


def _percent(rate: dict) -> str:
    return "n/a" if rate["mean"] is None else f"{number(100 * rate['mean'])} %"


def _interval(rate: dict) -> str:
    return "n/a" if rate["mean"] is None else span(100 * rate["low"], 100 * rate["high"])
