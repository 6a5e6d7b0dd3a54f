"""Text to blocks to masked batches, and what is said of text that cannot be used."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bistil.errors import InputError
from bistil.text.corpora import (
    IGNORED,
    Batches,
    Blocks,
    check_enough,
    held_out,
    lines_to_blocks,
    mask_tokens,
    pairs_to_blocks,
    rarity,
    read_lines,
    to_blocks,
    unigram_entropy,
)

LENGTH = 16


def test_unigram_entropy_is_of_the_real_tokens_alone(wordpiece) -> None:
    a, b, c = [i for i in range(len(wordpiece)) if i not in wordpiece.all_special_ids][:3]
    cls, sep, pad = wordpiece.cls_token_id, wordpiece.sep_token_id, wordpiece.pad_token_id
    ids = np.array([[cls, a, a, b, sep], [cls, c, sep, pad, pad]], dtype=np.int32)
    found = unigram_entropy(Blocks(ids, np.array([5, 3], dtype=np.int32)), wordpiece)
    assert found == pytest.approx(0.5 * np.log(2) + 2 * 0.25 * np.log(4))


@pytest.fixture(scope="module")
def lines(world: Path) -> list[str]:
    return read_lines(world / "corpora" / "qaa.txt")


def test_lines_are_stripped_and_empty_ones_left_out(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(b"  one \r\n\n \ntwo\nthree")
    assert read_lines(tmp_path / "text.txt") == ["one", "two", "three"]
    assert read_lines(tmp_path / "text.txt", 2) == ["one", "two"]
    assert read_lines(tmp_path / "text.txt", 1, without={"one"}) == ["two"]
    with pytest.raises(InputError, match=r"sentences of retrieval.*without_pairs: false"):
        read_lines(tmp_path / "text.txt", without={"one", "two", "three"})


def test_unusable_text_is_refused_with_the_place(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    with pytest.raises(InputError, match="there is none"):
        read_lines(path)
    path.write_bytes(b"\n  \n")
    with pytest.raises(InputError, match="is empty"):
        read_lines(path)
    path.write_bytes(b"good\nstill good\nbad \xff here\n")
    with pytest.raises(InputError, match=r"line 3 holds the byte 0xff"):
        read_lines(path)


def test_blocks_hold_the_whole_text_up_to_the_tail(wordpiece, lines) -> None:
    blocks = to_blocks(wordpiece, lines, LENGTH)
    stream = [
        i
        for line in lines
        for i in [*wordpiece(line, add_special_tokens=False)["input_ids"], wordpiece.sep_token_id]
    ]
    inner = blocks.ids[:, 1:-1].ravel().tolist()
    assert inner == stream[: len(inner)]
    assert len(stream) - len(inner) < LENGTH - 2
    assert set(blocks.ids[:, 0]) == {wordpiece.cls_token_id}
    assert set(blocks.ids[:, -1]) == {wordpiece.sep_token_id}
    assert set(blocks.lengths) == {LENGTH}


def test_too_little_text_is_refused(wordpiece, lines, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one block of 50 tokens"):
        to_blocks(wordpiece, lines[:1], 50)
    with pytest.raises(InputError, match="at least one block"):
        to_blocks(wordpiece, [], LENGTH)
    with pytest.raises(InputError, match=r"at least two blocks of 50 tokens was expected in .*qaa"):
        check_enough(wordpiece, lines[:2], 50, tmp_path / "qaa.txt", packed=True)
    check_enough(wordpiece, lines, 50, tmp_path / "qaa.txt", packed=True)
    check_enough(wordpiece, lines[:2], 50, tmp_path / "qaa.txt", packed=False)
    for few in (["", " ".join(lines[:60])], []):
        with pytest.raises(InputError, match=r"at least two lines was expected in .*qaa"):
            check_enough(wordpiece, few, 50, tmp_path / "qaa.txt", packed=False)


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0.01, 0.6), least=st.integers(1, 3))
def test_a_split_parts_the_blocks(wordpiece, lines, share: float, least: int) -> None:
    blocks = to_blocks(wordpiece, lines, LENGTH)
    training, kept = blocks.split(share, least=least)
    assert len(kept) == pytest.approx(max(least, share * len(blocks)), abs=1)
    together = np.concatenate([training.ids, kept.ids])
    assert sorted(map(bytes, together)) == sorted(map(bytes, blocks.ids))


def test_a_split_that_leaves_nothing_is_refused(wordpiece, lines) -> None:
    blocks = to_blocks(wordpiece, lines, LENGTH)
    single = type(blocks)(blocks.ids[:1], blocks.lengths[:1])
    with pytest.raises(InputError, match="the corpus has 1"):
        single.split(0.05)


def test_pairs_are_whole_and_swap_sides(wordpiece) -> None:
    pairs = [("a b", "c d e"), ("a b", "c d e"), ("a " * 40, "b " * 40)]
    blocks = pairs_to_blocks(wordpiece, pairs, 20)
    ids = [wordpiece(side, add_special_tokens=False)["input_ids"] for side in pairs[0]]
    cls, sep, padding = wordpiece.cls_token_id, wordpiece.sep_token_id, wordpiece.pad_token_id
    first, second = [cls, *ids[0], sep, *ids[1], sep], [cls, *ids[1], sep, *ids[0], sep]
    assert blocks.ids[0].tolist() == first + [padding] * (20 - len(first))
    assert blocks.ids[1].tolist() == second + [padding] * (20 - len(second))
    assert blocks.lengths.tolist() == [len(first), len(second), 19]
    assert (blocks.ids[2] == sep).sum() == 2
    rows, mask = blocks.rows(np.array([0, 1]))
    assert rows.shape == mask.shape == (2, len(first))
    assert torch.equal(mask, torch.ones_like(mask))


def test_masking_has_berts_shares_and_spares_specials_and_padding(wordpiece) -> None:
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(rng.integers(0, len(wordpiece), (400, 64)))
    mask = (torch.arange(64)[None, :] < torch.from_numpy(rng.integers(10, 64, 400))[:, None]).long()
    masked, labels = mask_tokens(ids, mask, wordpiece, 0.15, rng)
    chosen = labels != IGNORED
    ordinary = ~torch.isin(ids, torch.tensor(wordpiece.all_special_ids)) & (mask == 1)
    assert not bool((chosen & ~ordinary).any())
    assert torch.equal(labels[chosen], ids[chosen])
    assert torch.equal(masked[~chosen], ids[~chosen])
    assert float(chosen.sum() / ordinary.sum()) == pytest.approx(0.15, abs=0.01)
    assert float((masked[chosen] == wordpiece.mask_token_id).float().mean()) == pytest.approx(0.8, abs=0.03)
    assert float((masked[chosen] == ids[chosen]).float().mean()) == pytest.approx(0.1, abs=0.03)


@pytest.fixture(scope="module")
def corpora(world: Path, wordpiece):
    return {
        code: to_blocks(wordpiece, read_lines(world / "corpora" / f"{code}.txt"), LENGTH)
        for code in ("qaa", "qab")
    }


def make(corpora, wordpiece, *, steps: int = 40, seed: int = 3, mask_share: float = 0.15) -> Batches:
    even = dict.fromkeys(corpora, 1.0)
    return Batches(
        corpora, wordpiece, weights=even, batch_size=4, steps=steps, mask_share=mask_share, seed=seed
    )


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(a, other[n]) if n != "language" else a == other[n] for n, a in one.items()
    )


def test_a_batch_is_a_function_of_seed_and_step(corpora, wordpiece) -> None:
    batches, again = make(corpora, wordpiece), make(corpora, wordpiece)
    backwards = {step: again[step] for step in reversed(range(len(again)))}
    assert all(same(batches[step], backwards[step]) for step in range(len(batches)))
    assert not same(batches[5], make(corpora, wordpiece, seed=4)[5])


def test_a_batch_is_one_language_and_comes_from_its_corpus(corpora, wordpiece) -> None:
    batches = make(corpora, wordpiece, mask_share=0.0)
    for step in range(len(batches)):
        batch = batches[step]
        known = set(map(bytes, corpora[batch["language"]].ids.astype(np.int64)))
        assert "labels" not in batch
        assert all(bytes(row) in known for row in batch["input_ids"].numpy())


def test_held_out_batches_are_fixed_and_bounded(corpora, wordpiece) -> None:
    made = [held_out(corpora, wordpiece, batch_size=4, mask_share=0.15, most=10) for _ in range(2)]
    assert all(same(one, other) for one, other in zip(*made, strict=True))
    rows = {
        code: sum(len(batch["input_ids"]) for batch in made[0] if batch["language"] == code)
        for code in corpora
    }
    assert rows == {code: min(10, len(blocks)) for code, blocks in corpora.items()}


def test_rare_tokens_are_masked_more_often_and_their_number_is_exact(wordpiece) -> None:
    first = len(wordpiece.all_special_ids)
    counts = np.array([100, 10, 1])
    ids = np.full((3, 40), wordpiece.pad_token_id, np.int32)
    stream = np.repeat(np.arange(first, first + 3), counts)
    ids.ravel()[: len(stream)] = stream
    blocks = Blocks(ids, np.array([40, 40, 31], np.int32))
    rare = rarity({"qaa": blocks}, len(wordpiece), 0.7)
    assert rare is not None
    assert torch.allclose(rare[first : first + 3], torch.from_numpy(counts**-0.7))
    assert rarity({"qaa": blocks}, len(wordpiece), 0.0) is None

    row = torch.arange(first, first + 3)[None]
    drawn = np.zeros(3)
    for seed in range(6000):
        _, labels = mask_tokens(
            row, torch.ones_like(row), wordpiece, 0.34, np.random.default_rng(seed), rare
        )  # one of three
        assert (labels != IGNORED).sum() == 1
        drawn[int((labels[0] != IGNORED).nonzero())] += 1
    expected = 6000 * (shares := counts**-0.7) / shares.sum()
    assert ((drawn - expected) ** 2 / expected).sum() < 13.8  # chi square, 2 degrees of freedom, p = 0.001

    for share in (0.0, 0.15, 0.5, 1.0):
        masked, labels = mask_tokens(
            torch.from_numpy(ids).long(),
            (torch.from_numpy(ids) != wordpiece.pad_token_id).long(),
            wordpiece,
            share,
            np.random.default_rng(1),
            rare,
        )
        assert (labels != IGNORED).sum() == round(share * 111)
        assert (labels[torch.from_numpy(ids) == wordpiece.pad_token_id] == IGNORED).all()
        assert masked.shape == labels.shape


def test_smoothed_batches_are_a_function_of_seed_and_step(wordpiece) -> None:
    corpora = {"qaa": lines_to_blocks(wordpiece, ["qa ra la"] * 8, 16)}

    def batches(steps: int) -> Batches:
        return Batches(
            corpora,
            wordpiece,
            weights={"qaa": 1.0},
            batch_size=4,
            steps=steps,
            mask_share=0.3,
            seed=3,
            rare=rarity(corpora, len(wordpiece), 0.7),
        )

    for step in (4, 0):
        assert torch.equal(batches(9)[step]["labels"], batches(5)[step]["labels"])


def test_a_pool_spreads_what_it_repeats_and_thins_over_each_corpus() -> None:
    def part(first: int, rows: int) -> Blocks:
        return Blocks(np.arange(first, first + rows, dtype=np.int32)[:, None], np.ones(rows, np.int32))

    weights = {"large": 0.3, "small": 0.3, "parallel": 0.4}
    pool = Blocks.pooled({"large": part(0, 90), "small": part(1000, 10)}, weights).ids[:, 0]
    large, small = pool[pool < 1000], pool[pool >= 1000]
    assert len(large) == len(small) == 50
    assert set(np.diff(large)) == {1, 2}
    assert large[-1] >= 88
    assert set(np.bincount(small - 1000)) == {5}
