"""llama.cpp's batched decode by its C interface.

Each prompt is read once and copied to the sequences of its rows. Weights stay as the
GGUF has them and the cache is its default (float16, one stream per sequence). NumPy
draws the tokens from one uniform per row: llama.cpp's own sampler chain lists every
candidate first and took longer.
"""

import functools
import subprocess
import sys

import llama_cpp as ll
import numpy as np
from llama_cpp._logger import set_verbose
from serve import batches, serve


def _open_model(gguf, extra_buffers):
    """Open the weights; `extra_buffers` allows another layout for AMX units."""
    set_verbose(False)
    ll.llama_backend_init()
    params = ll.llama_model_default_params()
    params.use_extra_bufts = extra_buffers
    model = ll.llama_model_load_from_file(gguf.encode(), params)
    if not model:
        raise ValueError(f"llama.cpp cannot read {gguf}")
    return model


def _survives(gguf):
    """Try a first decode with extra buffers: a virtual machine may announce AMX and
    trap.
    """
    return (
        subprocess.run([sys.executable, __file__, gguf], capture_output=True).returncode
        == 0
    )


class _Context:
    """`rows` sequences of `size` tokens, with a batch of at most `capacity` tokens."""

    def __init__(self, model, rows, size, capacity, threads):
        params = ll.llama_context_default_params()
        params.n_ctx, params.n_seq_max = rows * size, rows
        params.n_batch = params.n_ubatch = max(rows, capacity)
        params.n_threads = params.n_threads_batch = threads
        self.context = ll.llama_init_from_model(model, params)
        self.memory = ll.llama_get_memory(self.context)
        self.batch = ll.llama_batch_init(params.n_batch, 0, 1)
        self.vocab = ll.llama_vocab_n_tokens(ll.llama_model_get_vocab(model))

    def decode(self, entries):
        """Feed tokens and return logits.

        Args:
            entries: (token, position, sequence, whether its logits are wanted).

        Returns:
            The wanted logits, [N, V].

        Raises:
            RuntimeError: if llama.cpp refuses the batch.
        """
        batch, wanted = self.batch, sum(entry[3] for entry in entries)
        batch.n_tokens = len(entries)
        for i, (token, position, sequence, output) in enumerate(entries):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, output
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        if status := ll.llama_decode(self.context, batch):
            raise RuntimeError(
                f"llama_decode answers {status} for {len(entries)} tokens"
            )
        return np.ctypeslib.as_array(
            ll.llama_get_logits(self.context), (wanted, self.vocab)
        )

    def read(self, prompts):
        """Read each different prompt once.

        Args:
            prompts: ids of each row's prompt, [B][T].

        Returns:
            Logits after each row's prompt, [B, V].
        """
        ll.llama_memory_clear(self.memory, True)
        first = {}
        for row, prompt in enumerate(prompts):
            first.setdefault(tuple(prompt), row)
        logits = self.decode(
            [
                (t, i, row, i + 1 == len(prompt))
                for prompt, row in first.items()
                for i, t in enumerate(prompt)
            ]
        )
        for row, prompt in enumerate(prompts):
            if (source := first[tuple(prompt)]) != row:
                ll.llama_memory_seq_cp(self.memory, source, row, -1, -1)
        order = list(first)
        return logits[[order.index(tuple(prompt)) for prompt in prompts]]


def _draw(logits, uniforms, statistics):
    """Token, log-prob and entropy (0 unless wanted) of each row at temperature 1, each
    [B].
    """
    drawn = []
    # Row by row: one row's arrays stay in the processor's cache.
    for z, uniform in zip(logits, uniforms):
        z = z - z.max()
        p = np.exp(z)
        cumulative = np.cumsum(p)
        token = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
        logp = entropy = 0.0
        if statistics:
            total = p.sum()
            logp, entropy = z[token] - np.log(total), np.log(total) - (p @ z) / total
        drawn.append((token, logp, entropy))
    return zip(*drawn)


def _load(settings):
    """The model, and contexts that are made once per number of rows."""
    extra = _survives(settings["gguf"])
    model = _open_model(settings["gguf"], extra)
    context = functools.cache(
        lambda *shape: _Context(model, *shape, settings["threads"])
    )

    def job(request):
        random = np.random.default_rng(request["seed"])
        new, statistics, tokens, logps, entropies = (
            request["new_tokens"],
            request["statistics"],
            [],
            [],
            [],
        )
        for prompts in batches(request):
            length, different = (
                len(prompts[0]),
                len(set(map(tuple, request["prompts"]))),
            )
            decoder = context(
                request["rows"], length + new, min(different, request["rows"]) * length
            )
            logits, drawn = decoder.read(prompts), []
            for step in range(new):
                token, logp, entropy = _draw(
                    logits, random.random(len(prompts)), statistics
                )
                drawn.append(token)
                logps += logp
                entropies += entropy
                if step + 1 < new:
                    logits = decoder.decode(
                        [(t, length + step, row, True) for row, t in enumerate(token)]
                    )
            tokens += map(list, zip(*drawn))
        return tokens, *(
            (np.array(logps), np.array(entropies)) if statistics else (None, None)
        )

    buffers = (
        "all buffer types" if extra else "plain buffers (AMX is announced but traps)"
    )
    return (
        job,
        f"llama-cpp-python {ll.__version__}, weights as in the GGUF, {buffers}, numpy "
        "draws",
    )


if __name__ == "__main__":
    if len(sys.argv) == 2:
        # Several tokens: a single one takes no path through the tile units.
        _Context(_open_model(sys.argv[1], True), 1, 64, 64, 1).decode(
            [(1, i, 0, i == 63) for i in range(64)]
        )
    else:
        serve(_load)
