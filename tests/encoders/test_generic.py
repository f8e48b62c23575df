"""Rows without a file in encoders/: where their weights are, which file is loaded, what else it may hold, and other sides."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from encoders.timm_model import repository
from radbench.encoder import describe, find, parse
from radbench.errors import ConfigError, WeightsError
from tests.encoders.conftest import loaded, pixels

CLOSE = {"rtol": 0, "atol": 1e-4}  # float32 sums in another order, features of order 1
PROCESSOR = {"size": {"height": 64, "width": 64}, "resample": 3, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
SMALL = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 96, "image_size": 64, "patch_size": 8}


# ---------------------------------------------------------------- timm: where the weights are


def test_the_repository_is_the_one_that_timm_names():
    """For every tag of timm the card names the hub repository that timm takes the weights from, or none where timm has none."""
    import timm
    from timm.models import get_pretrained_cfg

    tags = timm.list_pretrained()
    assert len(tags) > 1800
    wrong = {name: repository(name) for name in tags if repository(name) != (get_pretrained_cfg(name).hf_hub_id or "")}
    assert not wrong


def test_weights_on_no_hub_are_a_gap_that_says_where_timm_has_them():
    """A model whose weights are at an address of their own has a file name for them, and the way to that address."""
    card = describe(*parse("timm:vit_huge_patch14_gap_224.in1k_ijepa"))
    assert card.weights == "file:vit_huge_patch14_gap_224.in1k_ijepa" == f"file:{card.files[0]}"
    assert "get_pretrained_cfg('vit_huge_patch14_gap_224.in1k_ijepa').url" in card.how_to_get


def test_every_clip_that_was_trained_with_quickgelu_is_refused_with_gelu():
    """Where timm has one tag with QuickGELU and without it, the weights were trained with it: the other name is refused, and advised."""
    import timm

    tags = timm.list_pretrained()
    right = [name for name in tags if "quickgelu" in name]
    assert len(right) > 10
    for name in right:
        plain = name.replace("_quickgelu", "")
        with pytest.raises(ConfigError, match=f"trained with QuickGELU.*next: timm:{name}"):
            find("timm_model").card_for(find("timm_model").values({"model": plain}))
    for name in set(tags) - {name.replace("_quickgelu", "") for name in right}:
        assert describe(*parse(f"timm:{name}")).title == name


def test_a_name_without_its_tag_is_refused_with_the_full_name():
    """timm takes a default tag for a bare architecture; here the name has to say it, and the refusal does."""
    with pytest.raises(ConfigError, match="lacks its tag.*next: timm:vit_tiny_patch16_224.augreg_in21k_ft_in1k is timm's default"):
        describe(*parse("timm:vit_tiny_patch16_224"))


# ---------------------------------------------------------------- timm: the network without its classifier


@pytest.mark.parametrize("name, params", [("vit_tiny_patch16_224.augreg_in21k", 5_524_416), ("test_vit.r160_in1k", None)])
def test_the_classifier_is_not_counted(name, params):
    """The network has the parameters of timm's with no classes, so the cost of a model does not depend on its 21,843 of them."""
    import timm

    found = sum(value.numel() for value in loaded("timm_model", None, model=name).net.parameters())
    assert found == sum(value.numel() for value in timm.create_model(name, num_classes=0).parameters())
    assert found == (params or found)


@torch.inference_mode()
@pytest.mark.parametrize("name", ["test_vit.r160_in1k", "test_resnet.r160_in1k", "test_convnext.r160_in1k", "efficientvit_m0.r224_in1k",
                                  "repvit_m0_9.dist_300e_in1k"])  # fmt: skip
def test_the_head_still_means_what_the_classifier_is_given(tmp_path, name):
    """Without its classifier the model pools as with it, also where the head has a norm before it; the file's classifier is left."""
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model(name).eval()
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    encoder = loaded("timm_model", tmp_path, model=name)
    images = pixels(encoder)
    torch.testing.assert_close(encoder.encode(images).image, theirs.forward_head(theirs.forward_features(images), pre_logits=True), **CLOSE)


def test_nothing_but_the_classifier_is_left_in_the_file(tmp_path):
    """A tensor that belongs neither to the network nor to its classifier is refused by name."""
    import timm

    state = timm.create_model("test_vit.r160_in1k").state_dict()
    save_file(state | {"adapter.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="unexpected adapter.weight"):
        loaded("timm_model", tmp_path, model="test_vit.r160_in1k")


def test_timm_reads_a_bin_file(tmp_path):
    """Where a repository has pytorch_model.bin only, it is read, as tensors and never as code."""
    import timm

    torch.manual_seed(0)
    theirs = timm.create_model("test_vit.r160_in1k")
    torch.save(theirs.state_dict(), tmp_path / "pytorch_model.bin")
    state = loaded("timm_model", tmp_path, model="test_vit.r160_in1k").net.state_dict()
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in state.items())


# ---------------------------------------------------------------- transformers: which file, and what may be in it


def vit(layers: int = 2, **more):
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(layers)
    return ViTModel(ViTConfig(**(SMALL | {"num_hidden_layers": layers} | more))).eval()


def folder_of(path: Path, model, processor: dict = PROCESSOR) -> dict:
    """A repository as transformers saves it, and the content of its weight file."""
    model.save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps(processor))
    return load_file(path / "model.safetensors")


def test_more_layers_than_the_config_says(tmp_path):
    """The file of four layers beside a config.json of two is refused by the names of the layers, and not cut to two."""
    folder_of(tmp_path / "four", vit(4))
    folder_of(tmp_path / "two", vit(2))
    (tmp_path / "four" / "config.json").write_text((tmp_path / "two" / "config.json").read_text())
    with pytest.raises(WeightsError, match=r"has 32 tensors that the network in config.json does not; got .*layers\.2\..*option ignore"):
        loaded("hf_model", tmp_path / "four", model="owner/vit")


def test_a_network_in_shards_is_the_one_in_one_file(tmp_path):
    """A repository that transformers wrote in shards gives the tensors of the whole network; without a shard it is refused by name."""
    vit(4).save_pretrained(tmp_path, max_shard_size="60KB")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    parts = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(parts) > 2 and not (tmp_path / "model.safetensors").exists()
    net = loaded("hf_model", tmp_path, model="owner/vit").net.state_dict()
    assert all(torch.equal(net[name], value) for name, value in vit(4).state_dict().items())
    parts[1].unlink()
    with pytest.raises(WeightsError, match=f"{parts[1].name}: cannot be read"):
        loaded("hf_model", tmp_path, model="owner/vit")


ELSEWHERE = ("../other/model.safetensors", "..", "", "a\\u0000b", "model.safetensors.index.json")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"weight_map": {}}', "[" * 100_000,
                                     *(f'{{"weight_map": {{"a": "{name}"}}}}' for name in ELSEWHERE)])  # fmt: skip
def test_an_index_that_leads_elsewhere_is_refused(tmp_path, content):
    """An index of shards that is damaged, empty, or names a file outside its folder is a named error."""
    folder_of(tmp_path, vit())
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(WeightsError, match="model.safetensors.index.json: is no index of shards"):
        loaded("hf_model", tmp_path, model="owner/vit")


def test_a_tensor_may_be_left_when_the_configuration_says_so(tmp_path):
    """Tensors of other parts pass by the wrapper's list, and a part that is not on it by the option."""
    state = folder_of(tmp_path, vit())
    save_file(state | {"classifier.weight": torch.zeros(2), "adapter.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"has 1 tensors that .*got \['adapter.weight'\]"):
        loaded("hf_model", tmp_path, model="owner/vit")
    assert loaded("hf_model", tmp_path, model="owner/vit", ignore=["adapter"]).net


def test_the_named_file_is_the_one_that_is_loaded(tmp_path):
    """Of two files in one folder exactly the one that the path names is loaded, the one that the lock hashes."""
    state = folder_of(tmp_path, vit())
    save_file({name: value + 1 for name, value in state.items()}, tmp_path / "mine.safetensors")
    mine, whole = (loaded("hf_model", tmp_path / name, model="owner/vit").net.state_dict() for name in ("mine.safetensors", ""))
    assert all(torch.equal(mine[name], value + 1) for name, value in whole.items())


def test_transformers_reads_a_bin_file(tmp_path):
    """A folder with pytorch_model.bin only gives the same network, and one with code in it is refused unread."""
    state = folder_of(tmp_path, vit())
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    net = loaded("hf_model", tmp_path, model="owner/vit").net.state_dict()
    assert all(torch.equal(net[name], value) for name, value in vit().state_dict().items())

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"layernorm.weight": Trap()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="pytorch_model.bin: holds more than tensors"):
        loaded("hf_model", tmp_path, model="owner/vit")
    assert not (tmp_path / "sprung").exists()


# ---------------------------------------------------------------- transformers: other sides


def test_a_side_that_the_network_does_not_take_is_named_at_loading(tmp_path):
    """A processor of 96 pixels beside a network of 64 is an error with both numbers and the option, before any image is read."""
    folder_of(tmp_path, vit(), PROCESSOR | {"size": {"height": 96, "width": 96}})
    with pytest.raises(
        ConfigError, match=r"preprocessor_config.json: the network does not take .*got 96 .*expected 64; next: option image_size: 64"
    ):
        loaded("hf_model", tmp_path, model="owner/vit")
    assert loaded("hf_model", tmp_path, model="owner/vit", image_size=64).preprocess(np.zeros((80, 80), np.float32)).shape == (3, 64, 64)


@torch.inference_mode()
def test_another_side_interpolates_the_positions(tmp_path):
    """With image_size the processor's side is replaced, and the features are transformers' own at that side."""
    folder_of(tmp_path, vit(4))
    encoder = loaded("hf_model", tmp_path, model="owner/vit", image_size=96)
    images = pixels(encoder)
    assert images.shape[2:] == (96, 96)
    wanted = vit(4)(images, interpolate_pos_encoding=True)
    features = encoder.encode(images)
    torch.testing.assert_close(features.image, wanted.pooler_output, **CLOSE)
    assert features.patches.shape[1:3] == (12, 12)
    assert [level.shape[2:] for level in encoder.encode_levels(images)] == [(12, 12)] * 4


@pytest.mark.parametrize("said", [{"image_processor_type": "LevitImageProcessor"}, {"image_processor_type": "PerceiverImageProcessorFast"},
                                  {"image_processor_type": "ViTImageProcessor", "crop_pct": 0.9}, {"keep_aspect_ratio": True},
                                  {"rescale_offset": True}, {"include_top": True}], ids=lambda said: next(reversed(said)))  # fmt: skip
def test_a_processor_with_rules_of_its_own_is_refused(tmp_path, said):
    """What a processor's class or a further setting does to the image is not guessed: such a model needs a wrapper."""
    folder_of(tmp_path, vit(), PROCESSOR | said)
    with pytest.raises(ConfigError, match="asks for what is not served here: .*write a wrapper"):
        loaded("hf_model", tmp_path, model="owner/vit")


def test_a_side_that_is_no_whole_number_of_patches_is_refused(tmp_path):
    """A rim that no patch would see is an error with the two sides beside it."""
    folder_of(tmp_path, vit())
    with pytest.raises(ConfigError, match="no whole number of patches.*got 60; expected 56 or 64"):
        loaded("hf_model", tmp_path, model="owner/vit", image_size=60)


def test_another_side_keeps_the_crop(tmp_path):
    """A processor that crops keeps the same share of the image at another side."""
    crop = {"size": {"shortest_edge": 80}, "do_center_crop": True, "crop_size": {"height": 64, "width": 64}}
    folder_of(tmp_path, vit(), PROCESSOR | crop)
    encoder = loaded("hf_model", tmp_path, model="owner/vit", image_size=128)
    assert encoder._processor.size == {"shortest_edge": 160} and encoder._processor.kept == 0.8
    assert encoder.preprocess(np.zeros((300, 200), np.float32)).shape == (3, 128, 128)


def test_a_network_of_one_side_refuses_another(tmp_path):
    """Where transformers cannot interpolate the positions, image_size is an error that says which side is right."""
    from transformers import LevitConfig, LevitModel

    torch.manual_seed(0)
    small = LevitConfig(image_size=64, hidden_sizes=[16, 32, 48], num_attention_heads=[1, 2, 3], depths=[1, 1, 1], key_dim=[8, 8, 8])
    folder_of(tmp_path, LevitModel(small).eval())
    assert loaded("hf_model", tmp_path, model="owner/levit").net
    with pytest.raises(ConfigError, match=r"option image_size: the network does not take .*got 96 .*remove image_size, or set it to 64"):
        loaded("hf_model", tmp_path, model="owner/levit", image_size=96)
