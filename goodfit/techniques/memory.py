"""How many samples go through a model at once: found by trying, halved when memory runs out, and then kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from goodfit.errors import GoodfitError

_SAID = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")


class Memory:
    """Repeats a part of a step with fewer samples at once until it fits, as if the part that failed had never begun.

    say: told what happened. again: called before another try, to forget what else the failed one has noted.
    samples: the most that go through at once so far, None while a whole batch fits. A resumed run starts from it, so
        that it makes the same sums in the same order.
    """

    def __init__(self, model: nn.Module, *, say: Callable[[str], None] | None = None) -> None:
        self.model = model
        self.say = say
        self.again: Callable[[], object] | None = None
        self.samples: int | None = None

    def within(self, attempt: Callable[[int], Tensor], samples: int) -> Tensor:
        """What ``attempt(size)`` returns for the largest size that fits, at most ``samples`` and the size kept.

        Before another try, gradients, buffers (such as running statistics) and random generators are put back to where
        they were. Raises GoodfitError where a single sample does not fit.
        """
        size = min(self.samples or samples, samples)
        before = self._now()
        while True:
            problem = ""
            try:
                return attempt(size)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                problem = str(error).strip().split("\n")[0] or "memory ran out"
            # Only here, past the handler, does nothing hold on to the tensors of the failed try.
            before.restore()
            if self.again is not None:
                self.again()
            if size == 1:
                raise GoodfitError(
                    f"memory does not suffice for a single sample ({problem}); use a smaller model, smaller inputs "
                    "(data.image_size, data.length) or numerics.precision = 'bf16'"
                )
            size = self.samples = -(-size // 2)
            if self.say is not None:
                self.say(f"memory ran out; from here on {size:,} samples at a time, for the same result")

    def _now(self) -> _Before:
        """What a try changes: buffers, gradients that are there already, generators."""
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        return _Before(
            buffers=[(buffer, buffer.clone()) for buffer in self.model.buffers()],
            grads=[(p, None if p.grad is None else p.grad.clone()) for p in self.model.parameters()],
            cpu=torch.default_generator.get_state(),
            cuda=torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            device=device,
        )


@dataclass(frozen=True)
class _Before:
    """Everything that a try may change, as it was."""

    buffers: list[tuple[Tensor, Tensor]]
    grads: list[tuple[Tensor, Tensor | None]]
    cpu: Tensor
    cuda: Tensor | None
    device: torch.device

    @torch.no_grad()
    def restore(self) -> None:
        """Put everything back, and give memory that is held for nothing to the next try."""
        for buffer, value in self.buffers:
            buffer.copy_(value)
        for parameter, grad in self.grads:
            parameter.grad = None if grad is None else grad.clone()
        torch.default_generator.set_state(self.cpu)
        if self.cuda is not None:
            torch.cuda.set_rng_state(self.cuda, self.device)
            torch.cuda.empty_cache()


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the CPU, where it is a plain RuntimeError."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _SAID)
