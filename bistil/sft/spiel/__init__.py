"""SpIEL: sparse fine-tuning whose support moves (Ansell 2024, thesis ch. 7): few entries train, bad ones are
dropped, good ones grown.

Notable: what trains is one vector phi on a frozen encoder, so memory beyond the model is a few numbers for
each changed entry and one dense gradient at a time. `SpielAG` (Adam) grows by averaged gradients, `SpielMA`
(SM3) by row and column accumulators. A whole training:

>>> config = SpielConfig(steps=12, interval=4, estimation=2, density=0.05)
>>> with MovingSupport(model.encoder, config) as support:
...     optimizer = spiel_optimizer(support, model.head.parameters(), lr=1e-3)
...     for batch in batches(config.steps):
...         model.loss(batch).backward()
...         optimizer.step()
...         optimizer.zero_grad()
...     delta = support.delta(base, full={"head.weight": model.head.weight})
...     support.rewind()

The same optimiser goes into `transformers.Trainer(optimizers=(optimizer, None))` and
`training.loop.fit(optimizer=optimizer)`, there best with a
`callback.SpielCallback`. A checkpoint is the model's and
the optimiser's `state_dict`; it continues in the very bits.
"""

from bistil.sft.spiel.ag import SpielAG
from bistil.sft.spiel.config import SpielConfig
from bistil.sft.spiel.ma import SpielMA
from bistil.sft.spiel.support import MovingSupport
from bistil.sft.spiel.training import spiel_optimizer

__all__ = ["MovingSupport", "SpielAG", "SpielConfig", "SpielMA", "spiel_optimizer"]
