"""Study: does a chain of thought that was learned hold outside of what was shown?

Models from random numbers learn the chains f1 f1, f1 f2 and f2 f2 of the alphabet task.
Each test has one shift: a new composition, fewer and more steps, shorter and longer
strings, letters that no question had, and noise in the question (arXiv 2508.01191).
Predicted: exact chains fall under every shift, and most under the new composition,
where the answer can stay right (f1 and f2 commute) after a wrong chain.
"""

from fr.config import default

SEEN = "abcdefghijklmnopqrst"
NOISES, SHARES = ("insert", "delete", "change"), (0.05, 0.1, 0.2)
SHIFTS = {
    "composition": {"chains": "('f2 f1',)"},
    # k = 1, and k = 3 of neighbours that training had
    "fewer": {"chains": "('f1', 'f2')"},
    "more": {"chains": "('f1 f1 f1', 'f1 f1 f2', 'f1 f2 f2', 'f2 f2 f2')"},
    "shorter": {"length": "3"},
    "longer": {"length": "5"},
    "letters": {"letters": "uvwxyz"},
}


def get_config(form: str = ""):
    """Forms: "" (0.8 million parameters), "short", and "pod" (85 million)."""
    c = default()
    c.task.name = "alphabet"
    c.task.problems = 256
    c.task.alphabet.chains = ("f1 f1", "f1 f2", "f2 f2")
    c.task.alphabet.letters = SEEN
    c.training.start = "scratch"
    c.training.steps = 600  # 200 give nine right chains of ten (seed 100)
    c.training.learning_rate = 3e-3
    c.training.warmup_steps = 100
    c.sampling.max_new_tokens = 48
    c.sampling.slots = 128
    c.evaluation.temperature = 0.0
    c.evaluation.samples = 1
    c.evaluation.cuts = 2
    c.evaluation.measures = ("imitation",)
    shifts = SHIFTS | {
        f"{kind}_{round(100 * share)}": {"noise": kind, "noise_share": str(share)}
        for kind in NOISES
        for share in SHARES
    }
    if form == "short":
        c.task.problems, c.study.seeds = 4, (0,)
        c.training.steps, c.training.batch, c.training.warmup_steps = 4, 4, 1
        c.sampling.slots = 4
        shifts = {name: shifts[name] for name in ("composition", "more", "insert_10")}
    if form == "pod":  # for a v5p-8 (v5p:2x2x1)
        c.architecture.width, c.architecture.layers = 768, 12
        c.architecture.heads, c.architecture.ff = 12, 2048
        c.training.batch, c.training.steps = 256, 3000
        c.training.learning_rate = 6e-4
        c.task.problems = 1024
    c.study.ancestor = False
    c.study.arms = (("model", ()),)
    c.study.tests = (
        ("known", ()),
        *(
            (name, tuple((f"task.alphabet.{key}", text) for key, text in own.items()))
            for name, own in shifts.items()
        ),
    )
    # How much a shift costs, in exact chains; and right answers after wrong chains.
    c.study.contrasts = (
        *((name, _falls(name)) for name in shifts),
        (
            "unfaithful",
            (
                (1.0, "model", "composition:answer_only"),
                (-1.0, "model", "composition:chain_only"),
            ),
        ),
    )
    c.study.primary = ("contrast", "composition", "")
    declared = ("unfaithful", *list(SHIFTS)[1:], *(f"{kind}_10" for kind in NOISES))
    c.study.declared = tuple(
        ("contrast", name, "") for name in declared if name in dict(c.study.contrasts)
    )
    return c


def _falls(test):
    return ((1.0, "model", "known:chain_exact"), (-1.0, "model", f"{test}:chain_exact"))
