"""Reports: the model learns what it is shown, and the statistics are the field's own numbers."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from radbench import artifact
from radbench.errors import ConfigError, DataError
from tasks.report_generation import clinical, model, text, train
from tasks.report_generation.generate import generate
from tasks.report_generation.train import train_reporter

REFERENCES = ["the heart is normal in size. no pleural effusion.", "left basal opacity, suggesting pneumonia.", "clear lungs."]
HYPOTHESES = ["the heart is normal. no pleural effusion or pneumothorax.", "right opacity.", ""]


@pytest.mark.parametrize("tokenizer", ["words", pytest.param("ptb", marks=pytest.mark.skipif(not shutil.which("java"), reason="no Java"))])
def test_summed_statistics_are_corpus_bleu(tokenizer):
    """BLEU-4 from the summed per-report counts equals pycocoevalcap's corpus BLEU on the same tokens."""
    from pycocoevalcap.bleu.bleu import Bleu

    columns = text.statistics(REFERENCES, HYPOTHESES, tokenizer)
    tokens = text.tokenize([*REFERENCES, *HYPOTHESES], tokenizer)
    wanted, _ = Bleu(4).compute_score({k: [tokens[k]] for k in range(3)}, {k: [tokens[k + 3]] for k in range(3)}, verbose=0)
    match = [columns[f"bleu_match_{n}"].sum() for n in (1, 2, 3, 4)]
    guess = [columns[f"bleu_guess_{n}"].sum() for n in (1, 2, 3, 4)]
    ratio = columns["hyp_len"].sum() / columns["ref_len"].sum()
    bleu = np.prod([(m + 1e-15) / (g + 1e-9) for m, g in zip(match, guess, strict=True)]) ** 0.25 * (
        np.exp(1 - 1 / ratio) if ratio < 1 else 1
    )
    assert bleu == pytest.approx(wanted[3], abs=1e-9)


@pytest.mark.skipif(not shutil.which("java"), reason="no Java")
def test_ptb_tokens_are_pycocoevalcaps():
    """Our call of the PTB tokenizer gives pycocoevalcap's own tokens, without writing into site-packages."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    texts = [*REFERENCES, "no (significant) change; the patient's tube isn't seen -- 3.5 cm."]
    wanted = PTBTokenizer().tokenize({k: [{"caption": value}] for k, value in enumerate(texts)})
    assert text.tokenize(texts, "ptb") == [wanted[k][0] for k in range(len(texts))]


def test_rouge_is_the_packages():
    """rouge_l is rouge_score's F1 without stemming; an empty hypothesis scores 0 in both ROUGE columns."""
    from rouge_score.rouge_scorer import RougeScorer

    columns = text.statistics(REFERENCES, HYPOTHESES, "words")
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    wanted = [scorer.score(r, h)["rougeL"].fmeasure for r, h in zip(REFERENCES, HYPOTHESES, strict=True)]
    np.testing.assert_allclose(columns["rouge_l"], wanted)
    assert columns["rouge_l"][2] == columns["rouge_l_coco"][2] == 0


def tiny_reporter(reports, feature_width=4):
    protocol = model.Protocol(language_model="tiny", tiny_width=32, tiny_layers=2, tiny_vocabulary=300)
    return model.build(protocol, feature_width, reports, "cpu"), protocol


def test_the_loss_is_on_the_report_alone():
    """The summed loss equals transformers' own loss with the prompt ignored, times the number of report tokens."""
    reporter, _ = tiny_reporter(REFERENCES)
    patches = torch.randn(1, 2, 2, 4)
    loss, count = reporter.loss(patches, [REFERENCES[0]])
    answer = [*reporter._ids(REFERENCES[0]), reporter.tokenizer.eos_token_id]
    prompt = reporter._prompt(patches)
    embeds = torch.cat([prompt, reporter.language_model.get_input_embeddings()(torch.tensor([answer]))], dim=1)
    labels = torch.tensor([[-100] * prompt.shape[1] + answer])
    theirs = reporter.language_model(inputs_embeds=embeds, labels=labels).loss
    assert count == len(answer)
    torch.testing.assert_close(loss / count, theirs)


def test_padding_does_not_change_the_loss():
    """Reports of different lengths in one batch lose what they lose alone."""
    reporter, _ = tiny_reporter(REFERENCES)
    patches = torch.randn(3, 2, 2, 4)
    together, tokens = reporter.loss(patches, REFERENCES)
    alone = [reporter.loss(patches[k : k + 1], [REFERENCES[k]]) for k in range(3)]
    torch.testing.assert_close(together, sum(loss for loss, _ in alone))
    assert tokens == sum(count for _, count in alone)


def test_reporter_tells_images_apart_and_survives_saving(tmp_path):
    """After fitting two images with two reports, each image gets its own report word for word, also from disk."""
    reports = ["the heart is enlarged.", "no pleural effusion is seen."]
    reporter, protocol = tiny_reporter(reports)
    patches = torch.stack([torch.zeros(2, 2, 4), torch.ones(2, 2, 4)])
    optimiser = torch.optim.AdamW(reporter.parameters(), lr=3e-3)
    for _ in range(150):
        loss, tokens = reporter.loss(patches, reports)
        optimiser.zero_grad()
        (loss / tokens).backward()
        optimiser.step()
    assert reporter.eval().write(patches, 40) == reports
    model.save(reporter, tmp_path, 4, protocol)
    assert model.load(tmp_path, "cpu").write(patches, 40) == reports


@pytest.fixture
def released(tmp_path):
    """A small language model as a hub repository has it, with the generation settings of Vicuna 1.5."""
    reporter, _ = tiny_reporter(REFERENCES)
    reporter.language_model.save_pretrained(tmp_path / "vicuna")
    reporter.tokenizer.save_pretrained(tmp_path / "vicuna")
    (tmp_path / "vicuna" / "generation_config.json").write_text(json.dumps(
        {"_from_model_config": True, "bos_token_id": 1, "eos_token_id": 2, "max_length": 4096, "pad_token_id": 0, "temperature": 0.9,
         "top_p": 0.6, "transformers_version": "4.31.0"}))  # fmt: skip
    return tmp_path / "vicuna"


def test_a_released_language_model_can_be_saved_after_training(released, tmp_path):
    """Vicuna asks for sampling in a way that transformers refuses to save; what was trained is saved and writes the same from disk."""
    protocol = model.Protocol(language_model=str(released))
    reporter = model.build(protocol, 4, REFERENCES, "cpu").eval()
    model.save(reporter, tmp_path, 4, protocol)
    patches = torch.randn(2, 2, 2, 4, generator=torch.Generator().manual_seed(0))
    assert model.load(tmp_path, "cpu").write(patches, 8) == reporter.write(patches, 8)


@pytest.mark.parametrize(("file", "content"), [("model.safetensors", None), ("config.json", b"{")])
@pytest.mark.parametrize("hub", [False, True])
def test_a_damaged_language_model_is_named(released, tmp_path, monkeypatch, file, content, hub):
    """A cut weight file or a damaged config.json, in a folder or in the hub cache, is a WeightsError that says what to do, and no gap."""
    name = str(released)
    if hub:
        name, cache = "own/vicuna", tmp_path / "hub"
        commit = cache / "models--own--vicuna" / "snapshots" / ("0" * 40)
        shutil.copytree(released, commit)
        (cache / "models--own--vicuna" / "refs").mkdir()
        (cache / "models--own--vicuna" / "refs" / "main").write_text("0" * 40)
        monkeypatch.setenv("HF_HUB_CACHE", str(cache))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        released = commit
    whole = (released / file).read_bytes()
    (released / file).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(model.WeightsError, match="not a causal language model.*get it again"):
        model.build(model.Protocol(language_model=name), 4, REFERENCES, "cpu")


def test_a_language_model_that_is_here_in_part_is_a_gap(tmp_path, monkeypatch):
    """A download that was broken off is a gap whose way out goes on with it, and not a damaged model to delete."""
    cache = tmp_path / "hub"
    commit = cache / "models--own--vicuna" / "snapshots" / ("0" * 40)
    for folder in (commit, cache / "models--own--vicuna" / "blobs", cache / "models--own--vicuna" / "refs"):
        folder.mkdir(parents=True)
    (cache / "models--own--vicuna" / "refs" / "main").write_text("0" * 40)
    (cache / "models--own--vicuna" / "blobs" / "a1b2.incomplete").write_bytes(b"half")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    with pytest.raises(artifact.Absent, match="own/vicuna is here in part; `hf download own/vicuna` goes on"):
        model.build(model.Protocol(language_model="own/vicuna"), 4, REFERENCES, "cpu")


def test_a_language_model_that_lacks_a_tensor_is_refused(released):
    """A tensor that is not in the file is named, and not filled with random numbers."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(released / "model.safetensors")
    save_file({name: value for name, value in tensors.items() if "q_proj" not in name}, released / "model.safetensors", {"format": "pt"})
    with pytest.raises(model.WeightsError, match="lacks [0-9]+ tensors of its network.*q_proj"):
        model.build(model.Protocol(language_model=str(released)), 4, REFERENCES, "cpu")


def test_a_language_model_that_is_nowhere_is_named():
    """A path that is no folder, and can be no name on the hub, is a ConfigError before anything is read."""
    with pytest.raises(ConfigError, match="is no folder here and no name on the hub; got /no/such/folder"):
        model.weights_fingerprint(model.Protocol(language_model="/no/such/folder"))


def test_a_training_that_diverges_is_no_result():
    """A loss that is no number ends the training with the step and what to change."""
    reporter, protocol = tiny_reporter(REFERENCES)
    maps = {"__getitem__": lambda self, places: [torch.full((len(places), 2, 2, 4), torch.nan)]}
    with pytest.raises(DataError, match=r"the loss is nan at step 1 of .*lower lr"):
        train.fit(reporter, type("Kept", (), maps)(), REFERENCES, protocol, "cpu", "reports")


@pytest.mark.parametrize("killed_at", [2, 3, 5])
def test_a_killed_training_goes_on_from_its_checkpoint(tmp_path, monkeypatch, killed_at):
    """A training that is killed, in the middle or at the end of an epoch, goes on and ends with the weights of an undisturbed one."""
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(train, "CHECKPOINT_SHARE", 0)
    protocol = model.Protocol(language_model="tiny", epochs=3, lr=1e-3, batch=2, tiny_width=32, tiny_layers=1, tiny_vocabulary=300)
    reports = ["one heart", "two lungs", "three ribs", "four", "five zones", "six"]
    features = torch.randn(6, 2, 2, 8, generator=torch.Generator().manual_seed(0))
    maps = {"__getitem__": lambda self, places: [features[torch.from_numpy(places)]]}

    def run(checkpoint, dies=None):
        reporter, steps, real = model.build(protocol, 8, reports, "cpu"), [], torch.optim.AdamW.step

        def step(self, *args, **options):
            if len(steps) == dies:
                raise KeyboardInterrupt
            steps.append(1)
            return real(self, *args, **options)

        with monkeypatch.context() as patch:
            patch.setattr(torch.optim.AdamW, "step", step)
            fitted = train.fit(reporter, type("Kept", (), maps)(), reports, protocol, "cpu", "reports", checkpoint)
        return fitted["losses"], reporter.state_dict(), len(steps)

    wanted, weights, steps = run(None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "checkpoint.pt", dies=killed_at)
    losses, resumed, left = run(tmp_path / "checkpoint.pt")
    assert losses == wanted and len(wanted) == 3 and left == steps - killed_at
    for name, value in weights.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0)


def test_the_stage_runs_on_images(phantom_results):
    """Training and generation on phantom images give one row per test image with finite statistics and named missing metrics."""
    protocol = {
        "language_model": "tiny",
        "epochs": 1,
        "tiny_width": 32,
        "tiny_layers": 1,
        "tiny_vocabulary": 300,
        "lr": 1e-3,
        "batch": 8,
        "max_new_tokens": 12,
    }
    train_reporter("phantom", "raw_pixels", {"protocol": protocol}, phantom_results)
    meta = generate("phantom", "raw_pixels", {"train": "phantom", "protocol": protocol}, phantom_results)
    table = pd.read_parquet(meta.file("predictions.parquet"))
    index = pd.read_parquet(artifact.read(phantom_results / "index" / "phantom").file("index.parquet"))
    assert sorted(table["image_id"]) == sorted(index["image_id"][(index["split"] == "test") & index["view"].isin(["PA", "AP"])])
    assert np.isfinite(table["rouge_l"]).all() and set(meta.facts["metrics_not_computed"]) == {"f1_14", "rg_er"}


def test_a_language_model_that_is_not_here_is_a_gap(phantom_results):
    """Vicuna without weights is an absent artefact that says how to get it."""
    meta = train_reporter("phantom", "raw_pixels", {}, phantom_results)
    assert meta.absent and "hf download lmsys/vicuna-7b-v1.5" in meta.fields["reason"]


@pytest.fixture
def chexbert_folder(tmp_path):
    """Random weights in the exact layout of chexbert.pth, beside a small BERT's configuration and vocabulary."""
    from transformers import BertConfig, BertModel

    bert = tmp_path / "chexbert" / "bert-base-uncased"
    bert.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({w for t in REFERENCES for w in text.WORD.findall(t)}), ".", ","]
    (bert / "vocab.txt").write_text("\n".join(words))
    (bert / "tokenizer_config.json").write_text('{"do_lower_case": true, "tokenizer_class": "BertTokenizer"}')
    config = BertConfig(vocab_size=len(words), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    config.save_pretrained(bert)
    torch.manual_seed(0)
    state = {f"module.bert.{name}": value for name, value in BertModel(config).state_dict().items()}
    state["module.bert.embeddings.position_ids"] = torch.arange(512)[None]
    for head in range(14):
        state |= {
            f"module.linear_heads.{head}.weight": torch.randn(2 if head == 13 else 4, 32),
            f"module.linear_heads.{head}.bias": torch.randn(2 if head == 13 else 4),
        }
    torch.save({"epoch": 1, "model_state_dict": state}, tmp_path / "chexbert" / "chexbert.pth")
    return tmp_path


def test_chexbert_labels_are_the_packages(chexbert_folder, monkeypatch):
    """On the same weights our batched labeller gives the labels that f1chexbert's own network gives, report by report."""
    fc = pytest.importorskip("f1chexbert.f1chexbert")
    weights = chexbert_folder / "chexbert" / "chexbert.pth"
    labeller = clinical.CheXbert(weights).eval()
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(weights.parent / "bert-base-uncased")
    monkeypatch.setattr(fc.AutoConfig, "from_pretrained", lambda name: config)
    theirs = fc.bert_labeler(inference=True).eval()
    state = torch.load(weights, weights_only=True)["model_state_dict"]
    theirs.load_state_dict({name.removeprefix("module."): value for name, value in state.items()}, strict=False)
    texts = [*REFERENCES, "the heart " * 400]
    wanted = []
    for report in texts:
        ids = labeller.tokenizer(report)["input_ids"]
        ids = torch.tensor([ids if len(ids) <= 512 else [*ids[:511], labeller.tokenizer.sep_token_id]])
        with torch.no_grad():
            wanted.append([int(out.argmax(1)) for out in theirs(ids, torch.ones_like(ids, dtype=torch.float))])
    np.testing.assert_array_equal(labeller.label(texts), np.array(wanted))


def test_clinical_columns_appear_with_the_weights(chexbert_folder, monkeypatch):
    """With CheXbert's weights present the 28 label columns are written and only RG_ER is still named as not computed."""
    monkeypatch.setenv("RADBENCH_WEIGHTS", str(chexbert_folder))
    models = clinical.present()
    columns, missing = clinical.score(REFERENCES, REFERENCES, models, "cpu")
    assert set(models) == {"f1_14"} and set(missing) == {"rg_er"} and len(columns) == 28
    np.testing.assert_array_equal(columns["chexbert_ref_3"], columns["chexbert_hyp_3"])


def test_another_file_is_not_chexbert(chexbert_folder):
    """A checkpoint with other keys is refused with the keys named."""
    path = chexbert_folder / "chexbert" / "chexbert.pth"
    torch.save({"model_state_dict": {"module.text.weight": torch.zeros(2)}}, path)
    with pytest.raises(clinical.WeightsError, match="those of a text tower.*get chexbert.pth"):
        clinical.CheXbert(path)
    path.write_text("<!DOCTYPE html><html>404</html>")
    with pytest.raises(clinical.WeightsError, match="chexbert.pth") as found:
        clinical.CheXbert(path)
    assert "weights_only=False" not in str(found.value)


def test_a_clinical_models_vocabulary_is_in_the_key(chexbert_folder, monkeypatch):
    """The files beside CheXbert's weights that change its labels are among those that a key hashes."""
    monkeypatch.setenv("RADBENCH_WEIGHTS", str(chexbert_folder))
    before = clinical.fingerprint(clinical.present())
    assert sorted(before["f1_14"]) == [*(f"bert-base-uncased/{name}" for name in ("config.json", "tokenizer_config.json", "vocab.txt")),
                                       "chexbert.pth"]  # fmt: skip
    (chexbert_folder / "chexbert" / "bert-base-uncased" / "vocab.txt").write_text("other")
    assert clinical.fingerprint(clinical.present()) != before


@pytest.mark.parametrize(("file", "content", "said"), [
    ("config.json", "{", "not a BERT that transformers can read"), ("config.json", "[]", "not a BERT that transformers can read"),
    ("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nheart", "vocab.txt is of another BERT than config.json; got 6 words"),
    ("tokenizer_config.json", "{", "not a BERT that transformers can read"),
])  # fmt: skip
def test_damaged_files_of_chexberts_bert_are_named(chexbert_folder, file, content, said):
    """A damaged configuration, or a vocabulary of another BERT, is a WeightsError that names the folder and what to copy."""
    weights = chexbert_folder / "chexbert" / "chexbert.pth"
    (weights.parent / "bert-base-uncased" / file).write_text(content)
    with pytest.raises(clinical.WeightsError, match=f"bert-base-uncased: {said}.*copy them from the hub"):
        clinical.CheXbert(weights)


def test_radgraph_that_cannot_be_loaded_is_named(tmp_path):
    """A RadGraph folder that its package cannot read is a WeightsError with the way to mend it."""
    pytest.importorskip("radgraph")
    (tmp_path / "radgraph-xl").mkdir()
    (tmp_path / "radgraph-xl" / "config.json").write_text("{")
    with pytest.raises(clinical.WeightsError, match="radgraph-xl: the package radgraph cannot load it.*unpack radgraph-xl.tar.gz again"):
        clinical.radgraph_partial(["a"], ["b"], tmp_path, "cpu")


def test_radgraph_of_empty_reports_is_zero(monkeypatch):
    """A pair with an empty side scores 0 and the others what the package gives them, also when no pair is left for it."""
    radgraph = pytest.importorskip("radgraph")
    monkeypatch.setattr(radgraph, "F1RadGraph", lambda **options: lambda refs, hyps: (0, [float(len(text)) for text in hyps], 0, 0))
    assert clinical.radgraph_partial(["a", "b", "c"], ["", "xy", "z"], Path("x"), "cpu").tolist() == [0, 2, 1]
    assert clinical.radgraph_partial(["a", "b"], ["", ""], Path("x"), "cpu").tolist() == [0, 0]


@pytest.mark.parametrize(("device", "wanted"), [("cpu", -1), ("cuda:1", 1), ("cuda", 0)])
def test_radgraph_runs_on_the_device_of_its_stage(monkeypatch, device, wanted):
    """The package is told which GPU the stage holds; by itself it takes the first."""
    asked = {}
    radgraph = pytest.importorskip("radgraph")
    monkeypatch.setattr(radgraph, "F1RadGraph", lambda **options: asked.update(options) or (lambda refs, hyps: (0, [0.0], 0, 0)))
    clinical.radgraph_partial(["a"], ["b"], Path("x"), device)
    assert asked["cuda"] == wanted
