"""MiniLM: the reference's numbers, checked weights, tokens without truncation."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipway.domain.errors import FileMissing, PackageMissing, WeightsInvalid
from slipway.embedders.minilm import DIGESTS, MiniLM, MiniLMTokens, Weights
from slipway.networks.bert import write_graph


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    try:
        return MiniLM()
    except (PackageMissing, FileMissing) as missing:
        pytest.skip(str(missing))


def test_the_numbers_are_those_of_the_reference(minilm: MiniLM) -> None:
    torch = pytest.importorskip("torch", reason="the reference runs on torch")
    transformers = pytest.importorskip("transformers", reason="the reference runs on transformers")
    texts = ["A lamp has a warranty of five years.", "Hi", "", "word " * 300, "Ünïcode 漢字"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm.folder)
    model = transformers.AutoModel.from_pretrained(minilm.folder).eval()
    rows = tokenizer(texts, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        state = model(**rows).last_hidden_state
    mask = rows["attention_mask"][..., None].float()
    expected = torch.nn.functional.normalize((state * mask).sum(1) / mask.sum(1)).numpy()
    assert numpy.abs(MiniLM(runtime="numpy").embed(texts) - expected).max() < 2e-6


def test_tokens_are_counted_beyond_the_128_of_the_tokenizer_file(minilm: MiniLM) -> None:
    assert len(minilm.token_counter().starts("lamp " * 1000)) == 1000


def test_token_offsets_point_into_the_text(minilm: MiniLM) -> None:
    text = "Räder, naïve café — unbelievable 漢字. " * 3000
    starts = minilm.token_counter().starts(text)
    assert len(text) > 1 << 16, "the text is tokenised in segments"
    assert starts == sorted(starts)
    assert all(not text[start].isspace() for start in starts)
    one = minilm.token_counter().starts("Räder, naïve café — unbelievable 漢字. ")
    assert len(starts) == 3000 * len(one)


def test_only_the_first_256_tokens_count(minilm: MiniLM) -> None:
    long, longer = minilm.embed(["lamp " * 254, "lamp " * 254 + "bread " * 50])
    assert numpy.abs(long - longer).max() < 1e-6


TEXTS = [
    "A lamp has a warranty of five years.",
    "Refunds are paid back to the card within ten working days after the parcel has arrived.",
    "word " * 300,
    "Räder, naïve café — unbelievable 漢字",
]


def test_eight_bit_integers_point_where_the_exact_numbers_do(minilm: MiniLM) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    exact, rounded = MiniLM(runtime="numpy").embed(TEXTS), MiniLM(runtime="onnxruntime").embed(TEXTS)
    assert (exact * rounded).sum(axis=1).min() > 0.98
    assert numpy.abs(exact - rounded).max() > 1e-6, "the two runtimes are different ones"
    assert numpy.abs(numpy.linalg.norm(rounded, axis=1) - 1).max() < 1e-5
    assert numpy.abs(exact @ exact.T - rounded @ rounded.T).max() < 0.05


def test_seven_bits_for_processors_without_vnni_are_close_as_well(minilm: MiniLM) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    weights = Weights(minilm.folder)
    session = onnxruntime.InferenceSession(write_graph(weights.layers, bits=7), providers=["CPUExecutionProvider"])
    (tokens,) = weights.token_ids(TEXTS[:1])
    mean = session.run(None, {"state": weights.first_state([tokens])[None]})[0][0].mean(axis=0)
    exact = weights.last_states([tokens])[0].mean(axis=0)
    assert float(exact @ mean / (numpy.linalg.norm(exact) * numpy.linalg.norm(mean))) > 0.97


def test_neighbours_do_not_change_a_vector_in_eight_bits(minilm: MiniLM) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    embedder = MiniLM(runtime="onnxruntime")
    assert (embedder.embed(TEXTS)[0] == embedder.embed(TEXTS[:1])[0]).all()


def test_a_runtime_that_is_not_there_is_named(minilm: MiniLM, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))
    with pytest.raises(PackageMissing, match=r"slipway\[local\]"):
        MiniLM(runtime="onnxruntime")
    assert isinstance(MiniLM()._load().runtime, Weights), "auto falls back to numpy"


def test_threads_do_not_change_the_numbers(minilm: MiniLM) -> None:
    texts = [f"{'lamp ' * (place % 60)} number {place}" for place in range(150)]
    assert numpy.abs(MiniLM(threads=1).embed(texts) - MiniLM(threads=4).embed(texts)).max() < 1e-5


@pytest.mark.parametrize("name", sorted(DIGESTS))
def test_a_changed_file_is_not_used(minilm: MiniLM, tmp_path: Path, name: str) -> None:
    for file in DIGESTS:
        shutil.copy(minilm.folder / file, tmp_path / file)
    content = bytearray((tmp_path / name).read_bytes())
    content[-3] ^= 1
    (tmp_path / name).write_bytes(content)
    changed = MiniLM(path=str(tmp_path))
    with pytest.raises(WeightsInvalid, match="It is not used"):
        changed.embed(["lamp"])


def test_a_folder_without_the_model_is_named(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    with pytest.raises(FileMissing, match="embedder path"):
        MiniLM(path=str(tmp_path))


def test_the_counter_has_a_name_for_the_chunkers_id(minilm: MiniLM) -> None:
    assert MiniLMTokens(minilm).id == "all-MiniLM-L6-v2"
    assert MiniLMTokens(minilm).exact


def test_the_tokens_of_a_text_have_vectors_words_and_places(minilm: MiniLM) -> None:
    text = "Unbelievable lamps, naïvely lit."
    (found,) = minilm.embed_tokens([text])
    assert found.tokens.shape == (len(found.words), 384)
    assert len(found.spans) == len(found.words)
    assert numpy.abs(numpy.linalg.norm(found.tokens, axis=1) - 1).max() < 1e-5
    assert numpy.abs(found.vector - minilm.embed([text])[0]).max() < 1e-5
    first = [span for span, word in zip(found.spans, found.words, strict=True) if word == 0]
    assert text[first[0][0] : first[-1][1]] == "Unbelievable"
    assert [one.tokens.shape for one in minilm.embed_tokens(["", "lamp " * 400])] == [(0, 384), (254, 384)]


AWKWARD = [
    "",
    " \n\n ",
    "a\tb\u00a0c\u2003d\r\ne\u2028f\u0085g",
    "Räder, naïve café — unbelievable 漢字と漢字. e\u0301 \u0301x a\u200bb \x00c\x1cd",
    "[SEP] x[MASK]y [CLS][UNK] ##ing don't $4.90 (3,000)",
    "x" * 500 + " " + "ab-" * 300 + "\n" + "🙂🙂 👩\u200d👩 \ufeffstart",
]


@pytest.mark.parametrize("text", AWKWARD)
def test_words_taken_apart_once_give_the_tokens_of_the_whole_text(minilm: MiniLM, text: str) -> None:
    whole = minilm._load().weights.measuring.encode(text, add_special_tokens=False)
    counter = minilm.token_counter()
    for _ in range(2):  # the second time from what is known
        assert counter.starts(text) == [start for start, _ in whole.offsets]


@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("aB1 \n\t.,-'#[]äé\u0301漢\u00a0\u200b\x1c\x85🙂ß"), max_size=60))
def test_any_text_gives_the_same_tokens_by_words(minilm: MiniLM, text: str) -> None:
    whole = minilm._load().weights.measuring.encode(text, add_special_tokens=False)
    assert minilm.token_counter().starts(text) == [start for start, _ in whole.offsets]
