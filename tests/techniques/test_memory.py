"""When memory runs out: the same step in smaller pieces, as if nothing had happened, and the size is kept."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from goodfit.errors import GoodfitError
from goodfit.techniques.gradient import Accumulate, Sam
from goodfit.techniques.loss import CrossEntropy
from goodfit.techniques.memory import Memory, out_of_memory
from goodfit.types import Batch


class Small(nn.Module):
    """A net with batch norm and dropout where memory holds so many samples: the forward pass of more fails late."""

    def __init__(self, room: int, error: Exception) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)
        self.drop, self.room, self.error, self.seen = nn.Dropout(0.5), room, error, []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(inputs))
        made = self.drop(self.norm(self.first(inputs)))
        if len(inputs) > self.room:
            raise self.error
        return self.last(made)


ERRORS = {
    "gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "cpu": RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    "linux": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes. Error code 12"),
    "python": MemoryError(),
}


def model(room: int, error: str = "gpu") -> Small:
    torch.manual_seed(0)
    return Small(room, ERRORS[error])


def a_batch(samples: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(3)
    targets = torch.randint(0, 4, (samples,), generator=generator)
    return Batch(torch.randn(samples, 6, generator=generator), targets, None, torch.arange(samples))


def step(net: Small, technique: object, memory: Memory | None, batch: Batch, seed: int = 7) -> torch.Tensor:
    loss = CrossEntropy()
    total = loss.weigh(batch.targets, batch.weight)

    def backward(piece: Batch) -> torch.Tensor:
        share = loss(net(piece.inputs), piece.targets, piece.weight) / total
        share.backward()
        return share.detach()

    for parameter in net.parameters():
        parameter.grad = None
    torch.manual_seed(seed)
    return technique(backward, batch, parameters=list(net.parameters()), memory=memory)  # type: ignore[operator]


def same(one: nn.Module, other: nn.Module) -> bool:
    grads = [(a.grad, b.grad) for a, b in zip(one.parameters(), other.parameters(), strict=True)]
    state = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in [*grads, *state] if a is not None and b is not None)


@pytest.mark.parametrize("error", list(ERRORS))
def test_the_retried_step_is_bit_for_bit_that_of_the_size_that_fits(error: str) -> None:
    tried, fixed = model(4, error), model(16)
    said: list[str] = []
    memory = Memory(tried, say=said.append)
    loss = step(tried, Accumulate(microbatch="auto"), memory, a_batch())
    assert memory.samples == 4
    assert tried.seen == [16, 8, 4, 4, 4, 4]
    assert torch.equal(loss, step(fixed, Accumulate(microbatch=4), None, a_batch()))
    assert same(tried, fixed)
    assert said == [f"memory ran out; from here on {n} samples at a time, for the same result" for n in (8, 4)]


def test_a_failure_in_a_later_piece_leaves_nothing_behind_either() -> None:
    tried, fixed = model(16), model(16)
    memory, count = Memory(tried), iter(range(100))
    inner = tried.forward

    def forward(inputs: torch.Tensor) -> torch.Tensor:
        made = inner(inputs)
        if next(count) == 1:  # the second piece of the first try, whose first piece has left a gradient
            raise ERRORS["gpu"]
        return made

    tried.forward = forward  # type: ignore[method-assign]
    memory.samples = 8
    step(tried, Accumulate(), memory, a_batch())
    step(fixed, Accumulate(microbatch=4), None, a_batch())
    assert same(tried, fixed)
    assert int(tried.norm.num_batches_tracked) == 4


def test_what_was_in_the_gradients_before_the_step_stays_there() -> None:
    net = model(0)
    memory = Memory(net)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)

    def attempt(size: int) -> torch.Tensor:
        net(torch.ones(2, 6)).sum().backward()
        return torch.zeros(())

    with pytest.raises(GoodfitError, match="a single sample"):
        memory.within(attempt, 16)
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in net.parameters())
    assert int(net.norm.num_batches_tracked) == 0


def test_the_size_is_kept_for_later_steps_and_smaller_batches() -> None:
    net = model(6)
    memory = Memory(net)
    for samples in (16, 16, 3):
        step(net, Accumulate(), memory, a_batch(samples))
    assert net.seen == [16, 8, 4, 4, 4, 4, 4, 4, 4, 4, 3]


def test_where_a_batch_fits_nothing_is_cut() -> None:
    net, plain = model(100), model(100)
    memory = Memory(net)
    step(net, Accumulate(), memory, a_batch())
    step(plain, Accumulate(microbatch=16), None, a_batch())
    assert memory.samples is None
    assert same(net, plain)


def test_sam_cuts_its_batch_too_and_puts_the_weights_back() -> None:
    tried, fixed = model(4), model(16)
    tried.norm, fixed.norm = nn.Identity(), nn.Identity()  # its statistics would move in the try with other sizes
    tried.drop, fixed.drop = nn.Identity(), nn.Identity()
    before = copy.deepcopy(tried.state_dict())
    step(tried, Sam(microbatch="auto"), Memory(tried), a_batch())
    step(fixed, Sam(microbatch=4), None, a_batch())
    assert same(tried, fixed)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), tried.state_dict().values(), strict=True))


def test_other_errors_are_not_swallowed() -> None:
    net = model(4)
    net.error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="shapes"):
        step(net, Accumulate(), Memory(net), a_batch())
    assert not out_of_memory(ValueError("out of memory"))


def test_auto_without_a_memory_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"memory = Memory\(model\)"):
        step(model(4), Accumulate(), None, a_batch())
