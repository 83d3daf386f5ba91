"""A model's arithmetic from its `config.json`: parameters, bytes and operations of decoder-only transformers.

What a roofline needs: a decode step reads all weights once and every sequence's keys and values, a token costs two
operations for each parameter of a matrix that it goes through (Kaplan et al. 2020, section 2.1, and Pope et al. 2022).
Models of the families in `architectures.py` are counted exactly, all others not at all: a reason is given.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from localemp.bench.roofline.architectures import (
    UncountedError,
    experts_of,
    kv_cache_bytes,
    language_model,
    number,
    quantised_bytes,
    table,
    windows_of,
)
from localemp.utils.json_reader import JSONError, load_object
from localemp.utils.plain_errors import in_words


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """The sizes of a decoder-only transformer.

    Attributes:
        heads, head_dim: Of queries.
        kv_heads: Of keys and values.
        windows: For each layer, how many tokens back it sees; None is all.
        table: Parameters of the input embedding, of which a token reads one row.
        head: Parameters of the output matrix, which every step reads; the table once more where it is tied.
        tied: Whether the table is the output matrix.
        matrices: Parameters of all layers' matrices that every token goes through, shared experts and routers included.
        expert: Parameters of one expert of every layer that has experts.
        experts: In a layer.
        experts_per_token: That a token goes through.
        rest: Parameters of norms and biases.
        dtype_bytes: A parameter of table, output matrix, norms and biases.
        matrix_bytes: A parameter of the layers' matrices, scales included: less where they are quantised.
        kv_bytes: An element of the KV cache.
        note: What is left out or approximate; empty where nothing is.
    """

    heads: int
    head_dim: int
    kv_heads: int
    windows: tuple[int | None, ...]
    table: int
    head: int
    tied: bool
    matrices: int
    rest: int
    expert: int = 0
    experts: int = 0
    experts_per_token: int = 0
    dtype_bytes: float = 2
    matrix_bytes: float = 2
    kv_bytes: float = 2
    note: str = ""

    @classmethod
    def from_config(cls, config: Mapping[str, Any], dtype_bytes: float = 2) -> Self:
        """The shape that a configuration describes, all parameters of one size.

        Raises:
            UncountedError: It is of a kind that is not counted, or says too little.
        """
        language, family, note = language_model(config)
        layers, hidden, heads = (
            number(language, key) for key in ("num_hidden_layers", "hidden_size", "num_attention_heads")
        )
        head_dim = number(language, "head_dim", hidden // max(heads, 1))
        kv_heads = number(language, "num_key_value_heads", heads if family.kv_as_heads else None)
        queries, keys = heads * head_dim, kv_heads * head_dim
        experts = experts_of(language, layers)
        inner = number(language, "intermediate_size") if experts.layers < layers else 0
        attention = 2 * hidden * queries + 2 * hidden * keys
        biases = 0
        if language.get("qkv_bias", family.qkv_bias):
            biases += queries + 2 * keys
        if language.get("attention_bias"):
            biases += queries + 2 * keys + hidden
        if language.get("mlp_bias"):
            biases += 2 * inner + hidden
        norms = family.norms * hidden + 2 * head_dim * family.head_norms
        table = number(language, "vocab_size") * hidden
        return cls(
            heads=heads,
            head_dim=head_dim,
            kv_heads=kv_heads,
            windows=windows_of(language, family, layers),
            table=table,
            head=table,
            tied=bool(language.get("tie_word_embeddings")),
            matrices=layers * attention
            + (layers - experts.layers) * 3 * hidden * inner
            + experts.layers * experts.for_all,
            rest=layers * (norms + biases) + hidden,
            expert=experts.layers * experts.each,
            experts=experts.of_layer,
            experts_per_token=experts.per_token,
            dtype_bytes=dtype_bytes,
            matrix_bytes=dtype_bytes,
            kv_bytes=dtype_bytes,
            note=note,
        )

    @property
    def parameters(self) -> int:
        """The number of parameters; a tied output matrix is counted once."""
        head = 0 if self.tied else self.head
        return self.table + head + self.matrices + self.experts * self.expert + self.rest

    @property
    def active_parameters(self) -> int:
        """The number of parameters used for one token, including the whole embedding, as model cards count."""
        return self.parameters - (self.experts - self.experts_per_token) * self.expert

    @property
    def weight_bytes(self) -> float:
        """The bytes of all weights, summed over devices."""
        quantised = self.matrices + self.experts * self.expert
        return self.matrix_bytes * quantised + self.dtype_bytes * (self.parameters - quantised)

    @property
    def kv_bytes_per_token(self) -> int:
        """The bytes of keys and values of one token in all layers."""
        return round(2 * len(self.windows) * self.kv_heads * self.head_dim * self.kv_bytes)

    def kv_bytes_of(self, context: float) -> float:
        """Return the bytes of keys and values of a sequence of this length, without those outside a layer's window."""
        return 2 * self._seen(context) * self.kv_heads * self.head_dim * self.kv_bytes

    def flops_per_token(self, context: float, *, logits: bool = True) -> float:
        """Floating-point operations of a forward pass, per token.

        Args:
            context: Tokens that it attends to. For the tokens of a prompt of n it is (n + 1) / 2 on average.
            logits: Whether it goes through the output matrix: in prefill only a prompt's last token does.
        """
        head = self.head if logits else 0
        through = self.matrices + self.experts_per_token * self.expert + head
        return 2 * through + 4 * self.heads * self.head_dim * self._seen(context)

    def bytes_per_step(self, sequences: float, context: float, computed: float | None = None) -> float:
        """Bytes that a step must read: weights once, and the keys and values of all sequences.

        Of the input embedding, a row for each sequence, of activations and of what is written, nothing is counted. Of
        experts, those that tokens meet if each picks its own at random.

        Args:
            sequences: In the batch.
            context: Tokens of a sequence so far, their mean.
            computed: Tokens that go through the model; one of each sequence where None.
        """
        through = sequences if computed is None else computed
        missed = (1 - self.experts_per_token / self.experts) ** through if self.experts else 1
        matrices = self.matrices + (1 - missed) * self.experts * self.expert
        weights = self.matrix_bytes * matrices + self.dtype_bytes * (self.head + self.rest)
        return weights + sequences * self.kv_bytes_of(context)

    def _seen(self, context: float) -> float:
        """Tokens attended to, summed over the layers."""
        return sum(context if window is None else min(context, window) for window in self.windows)


def read_shape(folder: Path, engine_args: Mapping[str, Any]) -> ModelShape | None:
    """Return the shape of a folder's model as vLLM loads it; None if `why_uncounted` has a reason."""
    try:
        return _read(folder, engine_args)
    except UncountedError:
        return None


def why_uncounted(folder: Path, engine_args: Mapping[str, Any]) -> str:
    """Return why a folder's model has no shape; empty if it has one."""
    try:
        _read(folder, engine_args)
    except UncountedError as error:
        return error.message
    return ""


def _read(folder: Path, engine_args: Mapping[str, Any]) -> ModelShape:
    path = folder / "config.json"
    try:
        config = load_object(path)
    except (OSError, JSONError) as error:
        raise UncountedError(f"{path}: no readable configuration: {in_words(error)}") from error
    if engine_args.get("hf_overrides"):
        raise UncountedError("hf_overrides changes the model's configuration")
    # vLLM's "auto" is 16 bits, also for weights that are kept in 32.
    dtype_bytes = 4 if str(engine_args.get("dtype", "auto")).endswith(("float32", "float")) else 2
    shape = ModelShape.from_config(config, dtype_bytes)
    quantisation = table(config, "quantization_config") or table(table(config, "text_config"), "quantization_config")
    method = str(engine_args.get("quantization") or quantisation.get("quant_method") or "")
    notes = [shape.note] if shape.note else []
    matrix_bytes: float = dtype_bytes
    if method:
        matrix_bytes = quantised_bytes(method, quantisation)
        notes.append(
            f"{method}: {matrix_bytes:.3g} bytes a parameter of the layers' matrices, scales included, approx."
        )
    kv_bytes = kv_cache_bytes(str(engine_args.get("kv_cache_dtype", "auto")), quantisation, dtype_bytes)
    return replace(shape, matrix_bytes=matrix_bytes, kv_bytes=kv_bytes, note="; ".join(notes))
