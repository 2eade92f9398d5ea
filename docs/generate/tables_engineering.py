"""Tables of graders, damaged files, precision, tokenizers and training, by name."""

from collections import Counter

from cells import Table, interval, number
from registry import load, register, share

# Graders whose kinds are listed one by one; of earlier commits the sum will do.
_EARLIER = "fr "


@register("graders")
def graders() -> Table:
    """Errors of every grader on the audit set, by kind of task."""
    rows = []
    for name, grader in load("answers")["graders"].items():
        kinds = dict(grader["kinds"])
        if len(kinds) > 1:
            total = sum(map(Counter, kinds.values()), Counter())
            kinds = {"all": total, **({} if name.startswith(_EARLIER) else kinds)}
        for kind, c in kinds.items():
            wrong = share(c["false_right"], c["not_right"])
            lost = [share(c[key], c["right"]) for key in ("false_wrong", "unparsed")]
            rows.append(
                [name, kind, wrong, str(c["not_right"]), *lost, str(c["right"])]
            )
    columns = ["grader", "kind", "false right", "of not right", "false wrong"]
    return Table([*columns, "unparsed though readable", "of right"], rows)


_RUN_FILES = {
    "profiles.csv": "`profiles.csv`",
    "head.json": "`head.json`",
    "orders.json": "`orders.json`",
    "head.json under orders.json": "`head.json`, read by way of `orders.json`",
    "stages.json": "`stages.json`",
    "plan.parquet": "`*.plan.parquet`",
    "config.json": "`config.json`",
    "summary.json": "`summary.json`",
    "metrics.jsonl": "`metrics.jsonl`",
}
_MODEL_FILES = {
    "safetensors, ours": "`model.safetensors`, written by us",
    "safetensors": "`model.safetensors` of others",
    "a shard": "one of two shards",
    "index": "`model.safetensors.index.json`",
    "config": "`config.json`",
    "generation_config": "`generation_config.json`",
    "tokenizer": "`tokenizer.json`",
    "tokenizer_config": "`tokenizer_config.json`",
    "chat template": "`chat_template.jinja`",
    "GGUF": "GGUF, 32 bits",
    "GGUF, 16 bits": "GGUF, 16 bits",
}


def _damage(found: dict, names: dict[str, str]) -> Table:
    rows, total = [], Counter()
    for key, title in names.items():
        counts = Counter(found[key])
        rows.append([title, *_outcomes(counts)])
        total += counts
    rows.append(["all", *_outcomes(total)])
    columns = ["file", "tried", "refused", "same values", "other values"]
    return Table([*columns, "crash, hang, memory"], rows)


def _outcomes(counts: Counter) -> list[str]:
    good = [counts["refused"], counts["same"], counts["other"]]
    bad = sum(counts.values()) - sum(good)
    return [number(n, 0) for n in (sum(counts.values()), *good, bad)]


@register("damage_runs")
def damage_runs() -> Table:
    """Damaged files of a run."""
    return _damage(load("damage")["formats"], _RUN_FILES)


@register("damage_models")
def damage_models() -> Table:
    """Damaged files of models."""
    return _damage(load("damage")["models"], _MODEL_FILES)


@register("question_files")
def question_files() -> Table:
    """Damaged question files and shards."""
    names = {
        "jsonl": "questions, JSONL",
        "csv": "questions, CSV",
        "parquet_dictionary_zstd": "questions, Parquet (dictionary, zstd)",
        "parquet_plain": "questions, Parquet (plain)",
    }
    fuzz = load("question_files")["fuzz"]
    rows = []
    for key, title in names.items():
        tried, read = fuzz["files_tried"][key], fuzz["files_read"][key]
        rows.append([title, number(tried, 0), str(read), str(tried - read), "0"])
    tried, same = fuzz["shards_tried"], fuzz["shards_read_with_the_same_content"]
    other = fuzz["shards_read_with_another_content"]
    read = f"{same}, as they were written"
    last = [number(tried, 0), read, str(tried - same - other), str(other)]
    rows.append(["shards of attempts", *last])
    return Table(["", "tried", "read", "refused", "other outcome"], rows)


_PAIRS = {
    "loop bfloat16 against scorer bfloat16": "loop bf16, scorer bf16",
    "loop bfloat16 against scorer float32": "loop bf16, scorer float32",
    "scorer bfloat16 against scorer float32": "scorer bf16, scorer float32",
}


def _power(value: float) -> str:
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


@register("precision")
def precision() -> Table:
    """Gaps of log-probs and of J between two computations of the same tokens."""
    found = [load("precision")["found"][key] for key in _PAIRS]
    percent = lambda value: f"{number(100 * value)} %"
    quantiles = lambda pair: " / ".join(f"{v:.4f}".lstrip("0") for v in pair)
    rows = [
        ["log-prob gap, mean (nats)", *(_power(f["logp gap"]["mean"]) for f in found)],
        ["p99 of it", *(_power(f["logp gap"]["p99"]) for f in found)],
        ["J > 0 flips, share of tokens", *(percent(f["J > 0 flips"]) for f in found)],
        ["J > 1e-4 flips", *(percent(f["J > 0.0001 flips"]) for f in found)],
        ["J > 1e-2 flips", *(percent(f["J > 0.01 flips"]) for f in found)],
        ["junctions moved, of 8", *(str(f["junctions moved"]) for f in found)],
        [
            "0.99 quantile of J, first / second",
            *(quantiles(f["threshold"]) for f in found),
        ],
    ]
    return Table(["", *_PAIRS.values()], rows)


@register("precision_spread")
def precision_spread() -> Table:
    """Spread at three tolerances, by who computed it."""
    found = load("precision")["found"]
    first = found["loop bfloat16 against scorer bfloat16"]["spread"]
    last = found["scorer bfloat16 against scorer float32"]["spread"]
    sources = (first[0], last[0], last[1])
    names = {"0": "0 (the source's)", "0.0001": "1e-4", "0.01": "1e-2"}
    rows = [
        [title, *(f"{source[key]:.3f}" for source in sources)]
        for key, title in names.items()
    ]
    return Table(["tolerance", "loop bf16", "scorer bf16", "scorer float32"], rows)


@register("rounded_cache")
def rounded_cache() -> Table:
    """Differences of statistics that a rounded cache makes, mean and largest."""
    found = load("rounded_cache")
    names = {"entropy": "entropy", "logp": "log-prob", "demotion": "J"}
    gap = lambda row: f"{row['mean']:.3f}, {row['max']:.2f}"
    rows = [
        [kind, *(gap(own[name]) for name in names), number(100 * own["other_top"])]
        for kind, own in found["kinds"].items()
    ]
    spread = [number(found["sd"][name], 2) for name in names]
    rows.append(["standard deviation over the tokens", *spread, ""])
    columns = [f"{title}, nats: mean, largest" for title in names.values()]
    return Table(["cache", *columns, "most probable token differs, %"], rows)


@register("tokenizers_small")
def tokenizers_small() -> Table:
    """Texts with equal ids, small vocabularies."""
    names = {
        "smollm2": "SmolLM2 (single digits, byte-level)",
        "llama3": "Llama 3 (digits by three, whole words)",
        "qwen2": "Qwen 2, 2.5, 3 (NFC, single digits)",
        "mistral": "Llama 2, Mistral (sentencepiece, prefix space)",
        "gemma": "Gemma 1, 2, 3 (sentencepiece, runs as tokens)",
    }
    data = load("tokenizers")
    of = lambda count: f"{count} of {data['texts']}"
    rows = [
        [title, of(data["trained"][key]["folder"]), of(data["trained"][key]["gguf"])]
        for key, title in names.items()
    ]
    return Table(["pipeline", "folder", "GGUF"], rows)


@register("tokenizers_real")
def tokenizers_real() -> Table:
    """Texts with equal ids, real vocabularies."""
    names = {
        "gemma3-270m": "Gemma 3 270M (Q4_K_M)",
        "qwen2.5-coder-0.5b": "Qwen2.5-Coder-0.5B-Instruct",
        "smollm2-135m": "SmolLM2-135M-Instruct (Q4_1)",
    }
    data = load("tokenizers")
    rows = [
        [title, f"{data['real_gguf'][key]} of {data['texts']}"]
        for key, title in names.items()
    ]
    return Table(["file", "texts with equal ids"], rows)


@register("learning")
def learning() -> Table:
    """Accuracy after learning from a run's failures."""
    names = {
        "failures": "specialist, before",
        "rescued": "SFT on rescued",
        "rollouts": "SFT on right rollouts",
        "dpo": "DPO on pairs, parted",
    }
    data, rows = load("reinforcement"), []
    for key, title in names.items():
        row = data[key]
        gap = [100 * x for x in row["difference_interval"]]
        against = ""
        if key != "failures":
            difference = number(100 * row["difference"], 1, True)
            against = f"{difference} {interval(*gap)}"
        low, high = (100 * x for x in row["interval"])
        rows.append(
            [title, number(100 * row["accuracy"]), interval(low, high), against]
        )
    columns = ["model", "right, %", "95 % interval over problems"]
    return Table([*columns, "against before, points"], rows)


@register("pods")
def pods() -> Table:
    """Every pod config: what it needs per device on its slice, and whether it fits."""
    rows = []
    for one in load("pods"):
        programs = one["programs"]
        largest = max(programs, key=lambda row: row["held"])
        short = f"{largest['program']}, {largest['shape']}"
        rows.append(
            [
                f"`{one['config'].removeprefix('configs/')}`",
                one["model"],
                one["topology"],
                str(len(programs)),
                number(one["seconds"], 0),
                _held(programs, "decode"),
                _held(programs, "update"),
                f"{number(largest['held'] / 1e9)} ({short})",
                "no" if any(row["problem"] for row in programs) else "yes",
            ]
        )
    columns = ["config", "model", "slice", "programs", "compiled in s"]
    more = ["decode, GB", "update, GB", "largest, GB", "fits"]
    return Table([*columns, *more], rows)


def _held(programs: list[dict], name: str) -> str:
    """Bytes per device of the largest program of a name; a dash if there is none."""
    sizes = [row["held"] for row in programs if row["program"].startswith(name)]
    return number(max(sizes) / 1e9) if sizes else "-"


@register("pod_programs")
def pod_programs() -> Table:
    """The programs of the pod config of configs/qwen3_pcs_pod.py on a v5p-8."""
    found = load("pods")
    named = lambda o: "qwen3_pcs" in o["config"] and "v5p" in o["topology"]
    one = next(filter(named, found))
    rows = []
    for row in one["programs"]:
        sizes = ("argument", "output", "temporary", "beside", "held")
        copies = sum(copy["bytes"] for copy in row["copies"])
        rows.append(
            [
                f"{row['program']}, {row['shape']}",
                number(row["seconds"], 0),
                *(number(row[size] / 1e9, 2) for size in sizes),
                number(row["flops"] / 1e12, 2),
                number(row["moved"] / 1e9),
                number(copies / 1e9, 2),
                number(1e3 * row["roofline"]),
            ]
        )
    columns = ["program", "compiled in s", "arguments", "results", "temporary"]
    more = ["beside", "in all", "TFLOP", "moved, GB", "three largest copies, GB"]
    return Table([*columns, *more, "at least, ms"], rows)
