"""transformers' `generate` on torch: dynamic cache, sdpa attention.

All rows of a batch have their own prompt. The end-of-text token is switched off rather
than forbidden, so only the sampling itself runs on the logits. A logits processor
computes statistics at each step: the logits of all steps at once would be [T, B, V].
"""

import torch
import transformers
from serve import batches, serve


class _Statistics(transformers.LogitsProcessor):
    """Entropy of each step's distribution and log-prob of the drawn token."""

    def __init__(self):
        self.before, self.logp, self.entropy = None, [], []

    def __call__(self, input_ids, scores):
        self.drawn(input_ids)
        self.before = torch.log_softmax(scores, -1)
        self.entropy.append(-(self.before.exp() * self.before).sum(-1))
        return scores

    def drawn(self, input_ids):
        """Look up the last token of each row in the step before.

        Args:
            input_ids: ids so far, [B, T].
        """
        if self.before is not None:
            self.logp.append(self.before.gather(1, input_ids[:, -1:])[:, 0])


def _load(settings):
    """The model on the GPU in bfloat16 if there is one, else in float32 on the CPU."""
    gpu = torch.cuda.is_available()
    device, dtype = ("cuda", torch.bfloat16) if gpu else ("cpu", torch.float32)
    torch.set_num_threads(settings["threads"])
    model = transformers.AutoModelForCausalLM.from_pretrained(
        settings["folder"], dtype=dtype, attn_implementation="sdpa"
    )
    model = model.to(device).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0

    @torch.inference_mode()
    def job(request):
        torch.manual_seed(request["seed"])
        tokens, logp, entropy = [], [], []
        for rows in batches(request):
            prompts = torch.tensor(rows, device=device)
            found = _Statistics()
            out = model.generate(
                prompts,
                attention_mask=torch.ones_like(prompts),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=request["new_tokens"],
                logits_processor=[found] if request["statistics"] else [],
            )
            tokens += out[:, prompts.shape[1] :].tolist()
            if request["statistics"]:
                found.drawn(out)
                logp.append(torch.stack(found.logp).cpu())
                entropy.append(torch.stack(found.entropy).cpu())
        if not request["statistics"]:
            return tokens, None, None
        return tokens, torch.cat(logp, 1), torch.cat(entropy, 1)

    versions = f"transformers {transformers.__version__}, torch {torch.__version__}"
    about = f"{versions}, {str(dtype).removeprefix('torch.')}"
    return job, f"{about}, {device}, dynamic cache, sdpa"


if __name__ == "__main__":
    serve(
        _load,
        lambda: (
            torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
        ),
    )
