"""A task's head with fresh Transformer layers under it, on an encoder that may stay as it is (Bui 5.1).

Notable: the layers are BERT's, norm after sum, whatever the encoder's architecture is; they have its width,
its number of heads and its inner size.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, scaled_dot_product_attention

from bistil.tasks.task import Task

DROPOUT = 0.1


class FreshLayer(nn.Module):
    """One Transformer layer."""

    def __init__(self, hidden: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries_keys_values, self.joined = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.inner, self.outer = nn.Linear(hidden, inner), nn.Linear(inner, hidden)
        self.attended, self.normed = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Shape: states [B, L, H], mask [B, L] (True for a real token) -> [B, L, H]."""
        parts = self.queries_keys_values(states).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        queries, keys, values = parts
        rate = DROPOUT if self.training else 0.0
        found = scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask[:, None, None], dropout_p=rate
        )
        joined = self.joined(found.transpose(1, 2).flatten(2))
        states = self.attended(states + dropout(joined, rate, self.training))
        added = self.outer(gelu(self.inner(states)))
        normed: Tensor = self.normed(states + dropout(added, rate, self.training))
        return normed


class DeepHead(nn.Module):
    """A task's head over fresh layers over the encoder's states."""

    def __init__(self, layers: nn.ModuleList, head: nn.Module) -> None:
        super().__init__()
        self.layers, self.head = layers, head

    def forward(self, hidden: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The head's logits. Shape: hidden [B, L, H]."""
        for layer in self.layers:
            hidden = layer(hidden, batch["attention_mask"].bool())
        found: dict[str, Tensor] = self.head(hidden, batch)
        return found


def task_head(task: Task, config: Any, layers: int = 0) -> nn.Module:
    """A task's fresh head for an encoder with this configuration, over so many fresh layers."""
    head, hidden = task.head(config.hidden_size), config.hidden_size
    if not layers:
        return head
    inner = config.hidden_dim if config.model_type == "distilbert" else config.intermediate_size
    size = hidden, config.num_attention_heads, inner
    return DeepHead(nn.ModuleList(FreshLayer(*size) for _ in range(layers)), head)


def depth_of(tensors: Iterable[str]) -> int:
    """How many fresh layers a head has whose tensors have these names."""
    return len({name.split(".")[1] for name in tensors if name.startswith("layers.")})
