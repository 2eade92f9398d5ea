"""Rollouts of a run's problems by transformers on torch, as a file for import.py.

    python -m benchmarks.other_engine --config=configs/smollm2.py \
        --workdir=/tmp/other --to=/tmp/other.jsonl

Float32 on the CPU with torch's own attention and cache: another engine with the same
weights, which are written to WORKDIR/weights. The file has the fields of vLLM's
RequestOutput. `docs/import.md` has the difference of the log-probs that was measured.
"""

import json

from absl import flags

from fr import cli

cli.define_flags()
flags.DEFINE_string("to", None, "File to write (.jsonl).")


def main() -> None:
    """Sample every problem and write one line per problem."""
    given = flags.FLAGS
    config = cli.frozen_config()
    cli.require(to=given.to)
    import torch
    from transformers import AutoModelForCausalLM

    from fr import tasks
    from fr.models import load, save

    model = load(config.specialist)
    folder = f"{given.workdir}/weights"
    save(folder, model.config, model.params, model.tokenizer, model.stop_tokens)
    torch.manual_seed(config.seed)
    other = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    task = tasks.make(config.task)
    with open(given.to, "w") as file:
        for problem in task.problems(config.task.split, config.task.problems):
            prompt = model.encode(task.prompt(problem))
            outputs = [
                {"index": index, **_completion(model, tokens, logp)}
                for index, (tokens, logp) in enumerate(_sample(other, prompt, config))
            ]
            record = {"request_id": problem.id, "prompt": None}
            record |= {"prompt_token_ids": list(prompt), "outputs": outputs}
            file.write(json.dumps(record | {"model": config.specialist}) + "\n")


def _sample(other, prompt, config):
    """(token ids, log-probs at temperature 1) of every rollout of a prompt."""
    import torch

    c = config.sampling
    ids = torch.tensor([list(prompt)] * c.rollouts)
    stops, cache = other.generation_config.eos_token_id, None
    stops = {stops} if isinstance(stops, int) else set(stops)
    tokens, logps = [[] for _ in ids], [[] for _ in ids]
    for _ in range(c.max_new_tokens):
        with torch.inference_mode():
            out = other(ids, past_key_values=cache, use_cache=True)
        logits, cache = out.logits[:, -1], out.past_key_values
        ids = torch.multinomial(torch.softmax(logits / c.temperature, -1), 1)
        logp = torch.log_softmax(logits, -1).gather(1, ids)
        for row, (token, value) in enumerate(zip(ids[:, 0].tolist(), logp[:, 0])):
            if not stops & set(tokens[row]):
                tokens[row].append(token)
                logps[row].append(float(value))
        if all(stops & set(row) for row in tokens):
            break
    return list(zip(tokens, logps))


def _completion(model, tokens, logp):
    ended = tokens[-1] in model.stop_tokens
    return {
        "text": model.decode(tokens[:-1] if ended else tokens),
        "token_ids": tokens,
        "logprobs": [{str(t): {"logprob": v}} for t, v in zip(tokens, logp)],
        "finish_reason": "stop" if ended else "length",
        "stop_reason": None,
    }


if __name__ == "__main__":
    cli.run(main)
