"""Methods of tuning on a decoder: a small Llama trained here, tuned to a language it never saw by each method
(thesis chapter 7).

Notable: each seed is an artefact of its own, so an interrupted study goes on with the next seed.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

from bistil import plots
from bistil.pretrain.causal import DecoderSize, compare_on_decoder
from bistil.settings.ranges import Filled, Seed
from bistil.store.artefacts import Artefact, Store, file_id
from bistil.studies.kept import Found, Verdict
from bistil.text.languages import DataFolder

CLAIMS = (
    ("SpIEL-AG learns at least as much as LoRA", "spiel-ag", "lora"),
    ("SpIEL-AG learns more than SpIEL-MA", "spiel-ag", "spiel-ma"),
)


@dataclass(frozen=True, kw_only=True)
class Decoder(DecoderSize):
    """The comparison's sizes.

    Attributes:
        seeds: The seeds of the comparisons, each of which takes the place of `seed`.
    """

    seeds: Annotated[tuple[Seed, ...], Filled()] = (1,)


def study_decoder(data: DataFolder, store: Store, decoder: Decoder, *, say: Callable[[str], None]) -> Found:
    """Compare the methods once a seed; the table has nats a token on held-out text, and how much was learned
    by tuning.
    """
    found, rows, composed = Found(), list[dict[str, Any]](), list[dict[str, Any]]()
    for seed in decoder.seeds:
        size = DecoderSize(
            **{one.name: getattr(decoder, one.name) for one in dataclasses.fields(DecoderSize)}
            | {"seed": seed}
        )
        artefact = _compared(data, store, size, say)
        found.artefacts[artefact.id] = artefact
        before = artefact.metrics["before"]["test"]
        for row in artefact.metrics["rows"]:
            kept = {
                "method": row["method"],
                "seed": seed,
                "before": round(before, 4),
                "loss": round(row["test"], 4),
            }
            learned = {
                "learned": round(before - row["test"], 4),
                "learning_rate": row["learning rate"],
                "values": row["trained values"],
            }
            rows.append(
                {
                    **kept,
                    **learned,
                    "processor_seconds": round(row["processor seconds"], 1),
                    "artefact": artefact.id,
                }
            )
            composed += [
                {
                    "method": row["method"],
                    "seed": seed,
                    "language": code,
                    **{name: round(loss, 4) for name, loss in losses.items()},
                    "kept": round(
                        (losses["before"] - losses["both"]) / (losses["before"] - losses["alone"]), 4
                    ),
                    "artefact": artefact.id,
                }
                for code, losses in row.get("composed", {}).items()
            ]
    found.tables["decoder"] = rows
    learned_by = {
        name: [row["learned"] for row in rows if row["method"] == name]
        for name in dict.fromkeys(row["method"] for row in rows)
    }
    figure = plots.by_seed(learned_by, label="learned by tuning (nats a token of held-out text)")
    found.figures["learned"] = (
        figure,
        "What each method learned of a language that the decoder never saw: a dot a seed, a bar at the mean.",
    )
    if composed:
        found.tables["composed"] = composed
        kept_by = {
            name: [100 * row["kept"] for row in composed if row["method"] == name] for name in learned_by
        }
        found.figures["composed"] = (
            plots.by_seed(kept_by, label="kept of what was learned, with both worn (%)"),
            "Two languages learned each by itself, both differences worn together: what is kept of each. A"
            " dot a language and seed, a bar at the mean (thesis section 7.5.1).",
        )
        shares = [fmean(kept_by[name]) for name in ("spiel-ag", "lora")]
        found.verdicts.append(
            Verdict("worn with another, SpIEL-AG keeps at least what LoRA keeps (%)", *shares)
        )
    for claim, one, other in CLAIMS:
        mean = [1000 * fmean(learned_by[name]) for name in (one, other)]
        found.verdicts.append(Verdict(f"on a decoder {claim} (in 0.001 nats a token)", *mean))
    return found


def _compared(data: DataFolder, store: Store, size: DecoderSize, say: Callable[[str], None]) -> Artefact:
    learned = (size.unseen, size.second) if size.second else (size.unseen,)
    read = learned if size.model else (*size.seen, *learned)
    inputs = {f"text {code}": file_id(data.text(code)) for code in read}
    if size.model and Path(size.model).is_dir():
        inputs["model"] = file_id(size.model)
    return store.run("decoder", size, inputs, lambda folder: compare_on_decoder(data, size, say=say))
