"""TRL's GRPO update of a transformers model on a given batch: its loss and optimiser.

Gradients are accumulated over parts of the batch, without recomputation of layers
(TRL's default), which would only slow it down. All rows are as wide as the longest, as
TRL pads them.
"""

import pathlib
import time

import datasets
import numpy as np
import torch
import transformers
import trl
from serve import converse

NAMES = (
    "prompt_ids",
    "prompt_mask",
    "completion_ids",
    "completion_mask",
    "advantages",
    "old_per_token_logps",
)


def _trainer(folder, policy):
    """TRL's trainer of the model in a folder, with the settings of the update alone."""
    file = str(pathlib.Path(folder) / "tokenizer.json")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=file)
    # The trainer wants both; nothing here reads them.
    tokenizer.pad_token = tokenizer.eos_token = tokenizer.convert_ids_to_tokens(0)
    gpu = torch.cuda.is_available()
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa"
    )
    config = trl.GRPOConfig(
        output_dir=str(pathlib.Path(folder) / "trl"),
        use_cpu=not gpu,
        bf16=gpu,
        loss_type="grpo",
        beta=0.0,
        num_generations=policy["rollouts"],
        per_device_train_batch_size=policy["rollouts"],
        learning_rate=policy["learning_rate"],
        weight_decay=policy["weight_decay"],
        adam_beta2=0.95,
        gradient_checkpointing=False,
        max_steps=1,
        report_to=[],
    )
    made = trl.GRPOTrainer(
        model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config,
        train_dataset=datasets.IterableDataset.from_generator(
            lambda: iter([{"prompt": "never read"}])
        ),
        processing_class=tokenizer,
    )
    made.create_optimizer()
    made.model.train()
    return made


def _tensors(path, device):
    """The batch as TRL holds one: completions padded on the right to the longest."""
    batch = np.load(path)
    start, mask = int(batch["start"][0]), batch["mask"]
    width = int(mask.sum(1).max())
    tokens = np.maximum(batch["tokens"], 0)[:, : start + width]
    found = (
        tokens[:, :start],
        np.ones_like(tokens[:, :start]),
        tokens[:, start:],
        mask[:, :width].astype(int),
        batch["advantages"][:, 0],
        batch["old_logp"][:, :width],
    )
    return dict(zip(NAMES, (torch.tensor(x, device=device) for x in found)))


def _load(settings):
    """A job: the next update; a new batch restarts the model, and `seek` tunes
    parts.
    """
    torch.set_num_threads(settings["threads"])
    folder, policy = settings["folder"], settings["policy"]
    learner = _trainer(folder, policy)
    model, batch, size = learner.model, {}, 0
    start = {name: value.clone() for name, value in model.state_dict().items()}

    def take(path):
        nonlocal batch, size
        model.load_state_dict(start)
        learner.optimizer = None
        learner.create_optimizer()
        batch = _tensors(path, learner.accelerator.device)
        size = size or policy["microbatch"] or len(batch["advantages"])

    def update(size):
        begin, total = time.perf_counter(), 0.0
        learner.current_gradient_accumulation_steps = len(batch["advantages"]) // size
        for part in zip(*(x.split(size) for x in batch.values())):
            loss = learner.compute_loss(model, dict(zip(batch, part)))
            loss.backward()
            total += loss.detach()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), policy["clip_norm"])
        learner.optimizer.step()
        learner.optimizer.zero_grad()
        # Numbers wait for what a GPU still does.
        found = {"loss": float(total), "grad_norm": float(norm)}
        return {**found, "seconds": time.perf_counter() - begin}

    def job(request):
        nonlocal size
        if path := request.get("batch"):
            take(path)
        if request.get("seek"):
            rows = len(batch["advantages"])
            sizes = [rows // 2**k for k in range(5) if rows % 2**k == 0]
            size = min(sizes, key=lambda size: update(size)["seconds"])
            return {"microbatch": size}
        return update(size)

    versions = ", ".join(
        f"{module.__name__} {module.__version__}"
        for module in (trl, transformers, torch)
    )
    return (
        job,
        f"{versions}, "
        f"{'bfloat16 autocast' if torch.cuda.is_available() else 'float32'}, sdpa",
    )


if __name__ == "__main__":
    converse(_load, lambda job, request: job(request))
