"""Seeds of requests on CPUs: vLLM's engine dies of one whose prompt is computed in several parts.

vLLM 0.32 samples a token after each part of a prompt, and takes it back by the offset of the request's random
generator. Generators of CPUs have no offset, which is an error in the worker.

vLLM imports this module in its worker, before the model is loaded, because `worker_extension_cls` names `Seeds`.
"""

import torch

from localemp.engines.vllm.names import CachedRequestState


class RewoundGenerator(torch.Generator):  # type: ignore[misc]  # torch's types are unknown here
    """A random generator that begins anew where vLLM takes a token back.

    That is right for the parts of a prompt, as no token is kept before its last one. A request that lost its place in
    the KV cache has its tokens computed again in parts, too: what it draws afterwards begins anew.
    """

    def get_offset(self) -> int:
        """Return an offset, which `set_offset` does not heed."""
        return 0

    def set_offset(self, offset: int) -> None:
        """Return to the seed."""
        self.manual_seed(self.initial_seed())


def rewound(generator: torch.Generator | None) -> torch.Generator | None:
    """Return a generator of the same seed that can be rewound; None for none."""
    if generator is None:
        return None
    own = RewoundGenerator()
    own.manual_seed(generator.initial_seed())
    return own


class Seeds:
    """An extension of vLLM's worker without methods: what counts is that the worker imports this module."""


_initialise = CachedRequestState.__post_init__


def _initialise_with_own_generator(request: CachedRequestState) -> None:
    _initialise(request)
    request.generator = rewound(request.generator)


# Not clean: vLLM has no option for the generators of requests, so this replaces them where it makes a request's state.
CachedRequestState.__post_init__ = _initialise_with_own_generator
