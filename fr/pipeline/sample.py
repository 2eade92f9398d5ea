"""Stage 1, from problems to `rollouts/`: attempts of the specialist at each problem."""

from fr import store
from fr.exchange.notes import print_note
from fr.runs.attempts import make_attempts
from fr.runs.planned import plan_attempt
from fr.runs.run import Run
from fr.stats.bootstrap import percent, rate
from fr.tasks.formats import build_probe
from fr.types import GRADES, RIGHT, ROLLOUT, is_failure


def sample(run: Run) -> dict:
    """Draw `sampling.rollouts` attempts at each problem into `rollouts/`.

    With `sampling.probe_cuts` the confidence in an attempt's own answer is stored too.
    With `diagnosis.statistics` = loop the ancestor reads along, so that the live
    detector is calibrated on statistics of the loop that it runs in.

    Args:
        run: The run; finished shards of its folder are kept.

    Returns:
        The summary of `summarise_rollouts`; of imported rollouts, nothing is drawn.
    """
    if print_note(run.workdir, "rollouts"):
        return summarise_rollouts(run)
    plan, cuts = [], run.config.sampling.probe_cuts
    reads = run.config.diagnosis.statistics == "loop" and run.ancestor is not None
    ask = lambda problem, tokens: build_probe(
        problem, tokens, run.specialist, cuts, ("own",)
    )
    for problem in run.problems:
        prompt = run.specialist.encode(run.task.prompt(problem))
        for attempt in range(run.config.sampling.rollouts):
            plan.append(plan_attempt(run, prompt, problem, ROLLOUT, attempt, {}, reads))
    make_attempts(run, plan, "rollouts", ask if cuts else None)
    return summarise_rollouts(run)


def summarise_rollouts(run: Run) -> dict:
    """Count problems, attempts and grades of `rollouts/`.

    Args:
        run: A run whose rollouts are finished.

    Returns:
        `problems`, `failed_problems`, `rollouts`, `grades` (numbers), `accuracy` (a
        rate with its interval) and the share `truncated`.
    """
    columns = ["problem", "grade", "truncated"]
    problems, grades, truncated = (
        store.read_table(run.workdir / "rollouts", columns).to_pydict().values()
    )
    return {
        "problems": len(set(problems)),
        "failed_problems": len(
            {p for p, grade in zip(problems, grades) if is_failure(grade)}
        ),
        "rollouts": len(grades),
        "grades": {grade: grades.count(grade) for grade in GRADES},
        "accuracy": rate(
            problems,
            (grade == RIGHT for grade in grades),
            run.config.routing.bootstrap,
            run.config.seed,
        ),
        "truncated": percent(sum(truncated) / max(len(grades), 1)),
    }
