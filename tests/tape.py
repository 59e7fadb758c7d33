"""A CUDA graph's rules on the CPU: work is recorded without being done, and replayed on the tensors it saw then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# A recording that depended on values would be wrong in the next replay; on a GPU the host would wait for them, too.
LOOKS = {torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero, torch.ops.aten.equal}
# Writes to its running statistics without saying so.
SILENT = {torch.ops.aten.native_batch_norm: (3, 4)}


class Tape(TorchDispatchMode):
    """Notes each operation within the block, with the very tensors it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[tuple[Any, tuple, dict, Any]] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        assert op.overloadpacket not in LOOKS, f"{op} looks at a tensor's values"
        out = self._without_effect(op, args, kwargs)
        self.entries.append((op, args, kwargs, out))
        return out

    def _without_effect(self, op: Any, args: tuple, kwargs: dict) -> Any:
        schema = op._schema
        written = {at for at, one in enumerate(schema.arguments) if one.alias_info and one.alias_info.is_write}
        if written and not (schema.returns and any(one.alias_info is None for one in schema.returns)):
            returned = [args[at] if at < len(args) else kwargs[schema.arguments[at].name] for at in sorted(written)]
            return returned[0] if schema.returns else None
        spared = written | set(SILENT.get(op.overloadpacket, ()))
        return op(
            *(part.clone() if at in spared and part is not None else part for at, part in enumerate(args)), **kwargs
        )

    @torch.no_grad()
    def replay(self) -> None:
        for op, args, kwargs, out in self.entries:
            given = {tensor.untyped_storage()._cdata for tensor in _tensors((args, kwargs))}
            for old, new in zip(_tensors(out), _tensors(op(*args, **kwargs)), strict=False):
                if old.untyped_storage()._cdata not in given:
                    old.copy_(new)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class TapeRecorder:
    """Stands in for `pipeline.fast.graphs.CudaRecorder`."""

    def __init__(self) -> None:
        self.ran = self.recorded = self.replayed = 0

    def run(self, work: Callable[[], None]) -> None:
        self.ran += 1
        work()

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        self.recorded += 1
        with Tape() as tape:
            work()

        def replay() -> None:
            self.replayed += 1
            tape.replay()

        return replay
