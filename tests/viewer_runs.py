"""Small stores for tests of the viewer: a plain run, and one of hostile texts."""

import json
import pathlib

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer, models, pre_tokenizers

from fr import store
from fr.types import Cost

OPERATORS = ("retry", "sparse_steer", "local_temp")
WORDS = [
    "2 + 3 = 5 no 3 * 2 = 6 yes answer 3 * 2",
    "3 - 2 = 1 up 3 + 2 = 5 no",
    "2 * 3 = 7 yes answer 2 * 3",
    "3 + 2 = 5 yes answer 3 + 2",
]
HOSTILE = [
    "<script>window.hacked = 1</script>",
    "\"'><img src=x onerror='window.hacked = 1'>",
    "{{constructor.constructor('window.hacked = 1')()}} ${window.hacked=1} <%= 1 %>",
    "\x1b[31mred\x1b[0m \x00null\x00 \x07 \x9b",
    "\u202eesrever\u202c \u2066isolated \u200f",
    "</textarea></script><!-- <svg onload=window.hacked=1>",
    "a" * 1_000_000,
]


def attempt(
    tokenizer: Tokenizer, text: str, chance: np.random.Generator, **given
) -> store.Attempt:
    """An attempt with statistics that are drawn."""
    tokens = np.array(tokenizer.encode(text).ids, np.int32)
    count = len(tokens)
    names = store.TOKEN_STATS + store.LINEAGE_STATS * (given["operator"] != "retry")
    row = f"{given['problem']}/{given['operator']}/{given['attempt']}"
    usual = {
        "row": row,
        "task": "countdown",
        "specialist": "sft-0",
        "ancestor": "",
        "seed": 0,
        "question": "2 3 -> 6 :",
        "reference": "2 * 3",
        "meta": "{}",
        "text": text,
        "read": None,
        "answer": text.partition("answer ")[2] or None,
        "grader": "fr 2",
        "truncated": "answer" not in text,
        "params": {"temperature": 0.6, "budget": 96},
        "cost": Cost(generated=count),
        "key": np.array([1, 2], np.uint32),
        "prompt": np.array(tokenizer.encode("2 3 -> 6 :").ids, np.int32),
        "tokens": tokens,
        "forced": np.zeros(count, bool),
        "fired": np.zeros(count, bool),
        "sample_logp": np.zeros(count, np.float32),
        "stats": {n: chance.random(count).astype(np.float32) for n in names},
        "top_tokens": np.stack([tokens, np.roll(tokens, 1)], axis=1),
        "top_logp": np.log(np.tile(np.float32([0.75, 0.125]), (count, 1))),
    }
    return store.Attempt(**usual | given)


def write_run(folder: pathlib.Path, problems: int = 12, seed: int = 0) -> pathlib.Path:
    """Write rollouts/, scores/, attempts/ and config.json of a run of Countdown."""
    root = pathlib.Path(store.__file__).parent / "assets" / "countdown"
    tokenizer = Tokenizer.from_file(str(root / "tokenizer.json"))
    chance = np.random.default_rng(seed)
    rollouts, attempts = [], []
    for p in range(problems):
        problem = {"problem": f"countdown-{p}", "question": f"2 3 {p} -> 6 :"}
        for i in range(4):
            text = WORDS[chance.integers(4)]
            grade = "right" if text == WORDS[0] else "wrong"
            grade = "unparsed" if text == WORDS[1] else grade
            # Rollouts are plain; their scores have the ancestor's statistics.
            made = attempt(
                tokenizer, text, chance, operator="rollout", attempt=i, grade=grade,
                **problem,
            )  # fmt: skip
            made.stats = {n: made.stats[n] for n in store.TOKEN_STATS}
            rollouts.append(made)
        for operator in OPERATORS:
            for i in range(3):
                text = WORDS[chance.integers(4)]
                grade = "right" if text == WORDS[0] else "wrong"
                made = attempt(
                    tokenizer, text, chance, operator=operator, attempt=i, grade=grade,
                    **problem,
                )  # fmt: skip
                if operator == "sparse_steer":
                    made.fired[3] = made.forced[4] = made.forced[5] = True
                    made.cost = Cost(generated=len(made.tokens), forced=2)
                attempts.append(made)
    half = len(attempts) // 2
    store.write_shard(folder / "rollouts", 0, rollouts)
    failed = [a for a in rollouts if a.grade != "right"]
    scored = [attempt_scores(a, chance) for a in failed]
    store.write_shard(folder / "scores", 0, scored)
    store.write_shard(folder / "attempts", 0, attempts[:half])
    store.write_shard(folder / "attempts", 1, attempts[half:])
    config = {"specialist": "countdown", "routing": {"margin": 0.05, "hard": 0.5}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def attempt_scores(one: store.Attempt, chance: np.random.Generator) -> store.Attempt:
    """The same attempt with the statistics of a scorer, and a probe's confidence."""
    count = len(one.tokens)
    names = store.TOKEN_STATS + store.LINEAGE_STATS
    stats = {n: chance.random(count).astype(np.float32) for n in names}
    return store.Attempt(**{**vars(one), "stats": stats})


def write_hostile(folder: pathlib.Path) -> pathlib.Path:
    """Write a run with hostile texts in every field that a page shows."""
    pieces = {text: i for i, text in enumerate(h[:4000] for h in HOSTILE)}
    tokenizer = Tokenizer(models.WordLevel(pieces, HOSTILE[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("~", "removed")
    (folder / "specialist").mkdir(parents=True)
    tokenizer.save(str(folder / "specialist" / "tokenizer.json"))
    chance = np.random.default_rng(0)
    attempts = []
    for i, text in enumerate(HOSTILE):
        for operator in ("rollout", "retry", HOSTILE[1]):
            made = attempt(
                tokenizer, "~".join(pieces), chance, operator=operator, attempt=0,
                grade="wrong" if i % 2 else "right", problem=text[:2000],
                task=HOSTILE[0], question=text, reference=text, answer=text[:5000],
                specialist=text[:100], row=f"{i}/{operator}",
            )  # fmt: skip
            made.text = text
            made.confidence = {
                "cuts": np.array([0, 3, 6]),
                **{n: np.array([0.1, 0.5, 0.9]) for n in list(store.PER_CUT)[1:]},
            }
            attempts.append(made)
    more = {HOSTILE[0]: pa.array([HOSTILE[1]] * len(attempts))}
    store.write_shard(folder / "rollouts", 0, attempts, more)
    return folder
