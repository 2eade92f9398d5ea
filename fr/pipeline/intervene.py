"""Attempts of every operator on the failed problems."""

from fr import processes, store
from fr.diagnosis.junction import calibrate
from fr.errors import UserError
from fr.interventions import Setting, select
from fr.pipeline.attempts import make_attempts, plan_attempt
from fr.pipeline.profiles import build_profiles, traces_by_problem
from fr.pipeline.rates import rate
from fr.pipeline.run import Run
from fr.routing.profiles import write_profiles
from fr.types import RIGHT


def intervene(run: Run) -> dict:
    """Try each operator `intervention.attempts` times on each failed problem; write `attempts/`, `profiles.csv`."""
    config, has_ancestor = run.config, run.ancestor is not None
    operators, unable = select(config.intervention.operators, has_ancestor)
    traces = traces_by_problem(run.workdir / "scores")
    if not traces:
        raise UserError(f"{run.workdir / 'scores'} has no failed rollout; run scripts/diagnose.py first")
    plan = []
    for problem in run.problems:
        if problem.id not in traces:
            continue
        prompt = run.specialist.encode(run.task.prompt(problem))
        calibration = calibrate(traces[problem.id], config.diagnosis)
        for operator in operators:
            reads = operator.uses_ancestor and has_ancestor
            for attempt in range(1 if operator.deterministic else config.intervention.attempts):
                setting = Setting(config, problem.id, attempt, calibration, has_ancestor)
                own = operator.fill(setting)
                plan.append(plan_attempt(run, prompt, problem, operator.name, attempt, own, reads))
    make_attempts(run, plan, "attempts")
    if processes.is_first():
        write_profiles(run.workdir / "profiles.csv", [build_profiles(run)])
    return {"operators": _by_operator(run), "without_ancestor_left_out": unable}


def _by_operator(run: Run) -> dict[str, dict]:
    """Share right with its interval, and share of attempts whose detector fired, by operator."""
    columns = ["problem", "operator", "grade", "fire_position"]
    rows = store.read_table(run.workdir / "attempts", columns).to_pylist()
    out = {}
    for name in dict.fromkeys(row["operator"] for row in rows):
        own = [row for row in rows if row["operator"] == name]
        out[name] = {
            **rate((row["problem"] for row in own), (row["grade"] == RIGHT for row in own), run.config),
            "fired": sum(row["fire_position"] >= 0 for row in own) / len(own),
        }
    return out
