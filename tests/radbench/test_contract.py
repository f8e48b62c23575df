"""Each check of radbench/contract.py turns down the wrapper that it is there for, and no other check does."""

import dataclasses

import numpy as np
import pytest
import torch

from encoders._template import Template
from radbench import check, contract
from radbench.encoder import Encoder, Features, Option, find
from radbench.errors import ConfigError, WeightsError
from radbench.image import center_crop, normalise, resize, resize_shortest
from radbench.subject import ContractError, NotApplicableError, Subject

FILLED = {"title": "Broken net", "weights": "hf:me/broken", "how_to_get": "ask me", "pretrained_on": ("mimic_cxr",), "citation": "none",
          "notes": "made for a test"}  # fmt: skip


@pytest.fixture(scope="module")
def network():
    """The template's network under the fixed weights, built once."""
    return Subject("_template", Template).encoder.vit


def subject(network, card: dict | None = None, **parts) -> Subject:
    """The template with a filled-in card and some parts replaced; it borrows the network unless it loads another way."""
    card = dataclasses.replace(Template.card, **FILLED | (card or {}))
    wrapper = type("Broken", (Template,), {"card": card, "__module__": Template.__module__} | parts)
    found = Subject("broken", wrapper)
    if "load" not in parts:
        found.encoder = wrapper()
        found.encoder.vit = network
    return found


def failed(one: Subject) -> dict[str, str]:
    """The checks that fail, with what they say."""
    return {title: remark for verdict, title, remark in check.verdicts(one) if verdict == "FAIL"}


# ---------------------------------------------------------------- wrappers that are broken in one way


def upside_down(self, image):
    return np.ascontiguousarray(Template.preprocess(self, image)[:, ::-1])


def mirrored(self, image):
    return np.ascontiguousarray(Template.preprocess(self, image)[:, :, ::-1])


def transposed(self, image):
    return Template.preprocess(self, image.T)


def only_its_mean(self, image):
    return Template.preprocess(self, np.full_like(image, image.mean()))


def noisy(self, image):
    image = Template.preprocess(self, image)
    return image + np.random.default_rng().normal(0, 1e-3, image.shape).astype(np.float32)


def bilinear(self, image):
    return normalise(resize(image, 224, 224, "bilinear"), 0.5, 0.5)


def twice_as_large(self, image):
    return normalise(center_crop(resize(image, 448, 448), 224), 0.5, 0.5)


def from_the_top(self, image):
    return normalise(resize_shortest(image, 224)[:224, :224], 0.5, 0.5)


def unnormalised(self, image):
    return resize(image, 224, 224)[None].repeat(3, axis=0)


def uncropped(self, image):
    return normalise(resize_shortest(image, 224), 0.5, 0.5)


def constant(self, images):
    image, patches = Template.encode(self, images)
    return Features(torch.ones_like(image), patches)


def mean_pooled(self, images):
    _, patches = Template.encode(self, images)
    return Features(patches.mean((1, 2)), patches)


def all_tokens_pooled(self, images):
    return Features(self.vit.forward_features(images).mean(1), Template.encode(self, images).patches)


def flipped(self, images):
    image, patches = Template.encode(self, images)
    return Features(image, patches.flip(1))


def shifted(self, images):
    tokens = self.vit.forward_features(images)
    return Features(tokens[:, 0], tokens[:, :-1].unflatten(1, (14, 14)))  # keeps the CLS token, loses the last patch


def centred_on_the_batch(self, images):
    image, patches = Template.encode(self, images)
    return Features(image - image.mean(0), patches)


def centred_on_a_large_batch(self, images):
    image, patches = Template.encode(self, images)
    return Features(image - image.mean(0) if len(image) > 4 else image, patches)


def dropping_out(self, images):
    image, patches = Template.encode(self, images)
    return Features(torch.nn.functional.dropout(image), patches)


def overflowing_patches(self, images):
    image, patches = Template.encode(self, images)
    return Features(image, (patches.to(torch.float16) * 1e5).float() if torch.is_autocast_enabled("cpu") else patches)


def rough_taps(self, images):
    levels = Template.encode_levels(self, images)
    return [level + 3 * level.std() * torch.sign(level.sin()) for level in levels] if torch.is_autocast_enabled("cpu") else levels


def transposed_levels(self, images):
    return [level.transpose(2, 3) for level in Template.encode_levels(self, images)]


def first_blocks(self, images):
    return self.vit.forward_intermediates(images, indices=[0, 1, 2, 3], norm=False, intermediates_only=True)


def deep_to_shallow(self, images):
    return Template.encode_levels(self, images)[::-1]


def one_block_four_times(self, images):
    return Template.encode_levels(self, images)[3:] * 4


def levels_of_the_batch(self, images):
    return [level - level.mean(0) if len(level) > 1 else level for level in Template.encode_levels(self, images)]


def in_training(self, device):
    import timm

    self.vit = timm.create_model("vit_tiny_patch16_224", num_classes=0)


def without_the_final_norm(self, images):
    options = {"indices": [11], "norm": False, "return_prefix_tokens": True, "intermediates_only": True}
    ((grid, prefix),) = self.vit.forward_intermediates(images, **options)
    return Features(prefix[:, 0], grid.permute(0, 2, 3, 1))


def mean_without_the_final_norm(self, images):
    patches = without_the_final_norm(self, images).patches
    return Features(patches.mean((1, 2)), patches)


def channels_last(self, images):
    return [level.permute(0, 2, 3, 1) for level in Template.encode_levels(self, images)]


def shifted_by_five(self, images):
    image, patches = Template.encode(self, images)
    return Features(image, patches.flatten(1, 2).roll(5, dims=1).unflatten(1, patches.shape[1:3]))


NORMED = "CLS token after the final norm"
MEAN = "mean of patch tokens after the final norm"
BROKEN = {  # the parts that are broken, and the one check that fails
    "upside down": ({"preprocess": upside_down}, "picture reaches the input"),
    "mirrored": ({"preprocess": mirrored}, "picture reaches the input"),
    "transposed": ({"preprocess": transposed}, "picture reaches the input"),
    "only the mean of the picture": ({"preprocess": only_its_mean}, "picture reaches the input"),
    "undeclared crop": ({"preprocess": twice_as_large}, "picture reaches the input"),
    "a crop from the top": ({"preprocess": from_the_top}, "picture reaches the input"),
    "another field": ({"card": {"field": 0.5}}, "picture reaches the input"),
    "noise": ({"preprocess": noisy}, "preprocess keeps its contract"),
    "not normalised": ({"preprocess": unnormalised}, "preprocess keeps its contract"),
    "not cropped": ({"preprocess": uncropped}, "preprocess keeps its contract"),
    "another mean": ({"card": {"mean": 0.4}, "preprocess": bilinear}, "preprocess keeps its contract"),
    "another standard deviation": ({"card": {"std": 0.4}, "preprocess": bilinear}, "preprocess keeps its contract"),
    "another filter": ({"card": {"interpolation": "lanczos"}, "preprocess": bilinear}, "filter is the cards"),
    "no filter": ({"card": {"interpolation": "nonsense"}, "preprocess": bilinear}, "card is complete"),
    "own filter without a note": ({"card": {"interpolation": "own", "notes": ""}, "preprocess": bilinear}, "card is complete"),
    "constant features": ({"encode": constant}, "pictures have features of their own"),
    "mean for CLS": ({"encode": mean_pooled}, "pooling is the cards"),
    "mean with CLS for CLS": ({"encode": all_tokens_pooled}, "pooling is the cards"),
    "CLS for mean": ({"card": {"pooling": MEAN}}, "pooling is the cards"),
    "mean with CLS for mean": ({"card": {"pooling": MEAN}, "encode": all_tokens_pooled}, "pooling is the cards"),
    "no final norm": ({"card": {"pooling": NORMED}, "encode": without_the_final_norm}, "pooling is the cards"),
    "mean without the final norm": ({"card": {"pooling": MEAN}, "encode": mean_without_the_final_norm}, "pooling is the cards"),
    "channels last": ({"encode_levels": channels_last}, "levels are four maps"),
    "flipped patches": ({"encode": flipped}, "grid is upright"),
    "shifted patches": ({"encode": shifted}, "grid is upright"),
    "transposed taps": ({"encode_levels": transposed_levels}, "grid is upright"),
    "other blocks": ({"encode_levels": first_blocks}, "taps are the cards blocks"),
    "deep to shallow": ({"encode_levels": deep_to_shallow}, "taps are the cards blocks"),
    "one block four times": ({"encode_levels": one_block_four_times}, "taps are the cards blocks"),
    "centred on the batch": ({"encode": centred_on_the_batch}, "rows are independent"),
    "centred on a large batch": ({"encode": centred_on_a_large_batch}, "rows are independent"),
    "taps of the batch": ({"encode_levels": levels_of_the_batch}, "rows are independent"),
    "dropout": ({"encode": dropping_out}, "encoding is deterministic"),
    "overflowing patches": ({"encode": overflowing_patches}, "half precisions are close"),
    "rough taps": ({"encode_levels": rough_taps}, "half precisions are close"),
    "training mode": ({"load": in_training}, "loads ready"),
    "parameters of another network": ({"card": {"params": 6_000_000}}, "parameters are counted"),
    "width of another network": ({"card": {"dim": 384}}, "features have the cards shapes"),
    "patch of another network": ({"card": {"patch": 14}}, "features have the cards shapes"),
    "no licence": ({"card": {"licence": ""}}, "card is complete"),
    "levels out of order": ({"card": {"levels": (5, 2, 8, 11)}}, "card is complete"),
    "no hub address": ({"card": {"weights": "hf:nonsense"}}, "card is complete"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_import(monkeypatch):
    """The check of imports starts a process; it is tested with every encoder."""
    left = {one: foundations for one, foundations in contract.CHECKS.items() if one is not contract.import_is_cheap}
    monkeypatch.setattr(check, "CHECKS", left)


def test_template_with_a_filled_card_passes(network):
    """The wrapper that the others break keeps every promise."""
    assert not failed(subject(network))


@pytest.mark.parametrize("name", BROKEN)
def test_one_fault_fails_one_check(network, name):
    """A wrapper that is broken in one known way is turned down by the check that is there for it, and by no other."""
    parts, wanted = BROKEN[name]
    assert list(failed(subject(network, **parts))) == [wanted]


@pytest.mark.parametrize("field", contract.PLACEHOLDERS)
def test_a_placeholder_on_the_card_fails(network, field):
    """A card on which one field still says what the template says is not complete, and that field is named."""
    text = getattr(Template.card, field)
    left = text.replace("<id>", "broken") if isinstance(text, str) else text
    assert f"{field}: still what the template says" in failed(subject(network, {field: left}))["card is complete"]


# ---------------------------------------------------------------- options


def drawing(self, device):
    """Another random draw under another option, and nothing else."""
    torch.manual_seed(len(self.options["width"]))
    Template.load(self, device)


def pooled(self, images):
    image, patches = Template.encode(self, images)
    return Features(patches.mean((1, 2)) if self.options["pooling"] == "mean" else image, patches)


def test_an_option_that_only_changes_the_draws_is_dead(network):
    """Two networks differ in nothing but the option: one that only moves the random weights is turned down."""
    one = subject(network, load=drawing, options={"width": Option("narrow", ("narrow", "wide one"))})
    assert "option width does not reach the features" in failed(one)["options reach the features"]


def test_an_option_that_nobody_reads_is_dead(network):
    """An option that the card declares and the code does not read is turned down."""
    assert "does not reach" in failed(subject(network, options={"image_size": Option(224)}))["options reach the features"]


def test_choices_that_are_the_same_are_named(network):
    """An option that moves the features at one choice is alive; a choice that is the same as another is named so."""
    one = subject(network, encode=pooled, options={"pooling": Option("head", ("head", "cls", "mean"))})
    assert contract.options_reach_the_features(one) == "pooling: head, cls (same as head), mean"


def test_a_free_option_is_named_as_not_tried(network):
    """What has no choices and no number to vary is not tried, and the verdict says so."""
    with pytest.raises(NotApplicableError, match=r"not tried: names \(any value: --option\)"):
        contract.options_reach_the_features(subject(network, options={"names": Option([])}))


def stretched(self, image):
    low, high = (image.min(), image.max()) if self.options["stretch"] else (0.0, 1.0)
    return Template.preprocess(self, (image - low) / (high - low) if high > low else image)


def test_an_option_that_stretches_the_range_is_alive(network):
    """Options are compared on middle greys, which a stretch to black and white changes."""
    one = subject(network, options={"stretch": Option(False)}, preprocess=stretched)
    assert contract.options_reach_the_features(one) == "stretch: False, True"


def selecting(self, device):
    if self.weights is not None and self.options["part"] == "target":
        raise WeightsError(self.weights, "holds the context encoder only")
    Template.load(self, device)


@pytest.mark.parametrize("weights", [None, "model.safetensors"])
def test_a_part_that_is_not_in_the_file_is_not_run(network, tmp_path, weights):
    """An option that selects weights is not tried on random ones, and a file that lacks the other part is no fault of the wrapper."""
    one = subject(network, options={"part": Option("context", ("context", "target"), selects_weights=True)}, load=selecting)
    if weights:
        from safetensors.torch import save_file

        save_file(network.state_dict(), tmp_path / weights)
        one.path = tmp_path
    said = "holds the context encoder only" if weights else "selects weights, and these are random"
    with pytest.raises(NotApplicableError, match=said):
        contract.options_reach_the_features(one)


def test_an_option_that_selects_another_file_loads_it(tmp_path, monkeypatch):
    """With one release present the others are not run; with two, the option is compared on the two files."""
    monkeypatch.setenv("RADBENCH_WEIGHTS", str(tmp_path))
    wrapper = find("torchxrayvision_densenet121")
    net = Subject("xrv", wrapper).encoder.net
    torch.save(net.state_dict(), tmp_path / "densenet121-res224-mimic_ch.pt")
    one = Subject("xrv", wrapper, tmp_path / "densenet121-res224-mimic_ch.pt")
    with pytest.raises(NotApplicableError, match=r"trained_on chex \(weights not present\)"):
        contract.options_reach_the_features(one)
    torch.save({name: value * 1.5 for name, value in net.state_dict().items()}, tmp_path / "densenet121-res224-chex.pt")
    assert "trained_on: mimic_ch, chex; not tried: trained_on nih" in contract.options_reach_the_features(one)


def test_what_a_named_model_turns_down_is_no_fault():
    """A convolutional network has no class token: the generic wrapper says so, the verdict names it and is ok."""
    remark = contract.options_reach_the_features(Subject("timm_x", find("timm_model"), None, {"model": "test_resnet.r160_in1k"}))
    assert "has no class token" in remark and "image_size: 0, " in remark


# ---------------------------------------------------------------- weights, packages, own preprocessing


def test_a_replaced_weight_file_is_noticed(network, tmp_path, monkeypatch):
    """The first check prints and remembers the file's sha256; another file under the same path fails a check of its own."""
    monkeypatch.setattr(contract, "RESULTS", tmp_path / "results")
    one = subject(network)
    one.path = tmp_path / "model.safetensors"
    one.path.write_bytes(b"first")
    assert "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e" in contract.weight_files_are_the_known_ones(one)
    one.path.write_bytes(b"second")
    with pytest.raises(WeightsError, match="has changed since its first use"):
        contract.weight_files_are_the_known_ones(one)


def test_a_file_that_is_not_the_cards_fails(network, tmp_path, monkeypatch):
    """A weight file at the card's own address whose digest is not the card's is turned down."""
    monkeypatch.setattr(contract, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("RADBENCH_WEIGHTS", str(tmp_path))
    one = subject(network, {"weights": "file:model.safetensors", "digest": f"sha256:{'0' * 64}"})
    one.path = tmp_path / "model.safetensors"
    one.path.write_bytes(b"first")
    with pytest.raises(WeightsError, match="not the weights of the card"):
        contract.weight_files_are_the_known_ones(one)


def test_without_its_packages_card_and_input_are_still_checked():
    """Where the network cannot run, its card and its preprocessing are checked all the same."""
    lines = {title: verdict for verdict, title, _ in check.verdicts(Subject("cxr_foundation", find("cxr_foundation")))}
    assert lines["loads ready"] == lines["grid is upright"] == "-"
    assert {lines[title] for title in ("card is complete", "preprocess keeps its contract", "picture reaches the input",
                                       "filter is the cards")} == {"ok"}  # fmt: skip


def stretched_twice(self, image):
    small = resize(image, 320, 320, self.card.interpolation)
    return normalise(resize(small, 224, 224, "bicubic"), self.card.mean, self.card.std)


def test_a_filter_that_is_read_off_the_card_passes(network):
    """Preprocessing that cannot be recomputed passes when another filter on the card changes it."""
    with pytest.raises(NotApplicableError, match="read off the card; there is another step"):
        contract.filter_is_the_cards(subject(network, preprocess=stretched_twice))


def test_nothing_to_tap_is_not_run(network):
    """A wrapper that leaves `encode_levels` as it is repeats its grid, which is no order of blocks."""
    with pytest.raises(NotApplicableError, match="nothing to tap"):
        contract.taps_are_the_cards_blocks(subject(network, {"levels": None}, encode_levels=Encoder.encode_levels))


def normed(self, images):
    return self.vit.forward_intermediates(images, indices=list(self.card.levels), norm=True, intermediates_only=True)


def normed_first_blocks(self, images):
    return self.vit.forward_intermediates(images, indices=[0, 1, 2, 3], norm=True, intermediates_only=True)


def normed_afterwards(self, images):
    return [self.vit.norm(level.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for level in Template.encode_levels(self, images)]


def test_taps_may_be_normed(network):
    """Taps after a norm count as the block before it; where the norm comes after the pass, the blocks are not told, and no fault."""
    assert contract.taps_are_the_cards_blocks(subject(network, encode_levels=normed)) == "blocks 2, 5, 8, 11"
    with pytest.raises(ContractError, match="not the blocks of the card's levels"):
        contract.taps_are_the_cards_blocks(subject(network, encode_levels=normed_first_blocks))
    with pytest.raises(NotApplicableError, match="cannot be told"):
        contract.taps_are_the_cards_blocks(subject(network, encode_levels=normed_afterwards))


def test_a_network_that_does_not_load_fails_once(network):
    """Where the network does not load, what needs it is not run: the reason is said once."""

    def refusing(self, device):
        raise ConfigError("here", "no")

    one = subject(network, load=refusing)
    assert list(failed(one)) == ["loads ready"]
    assert [remark for verdict, _, remark in check.verdicts(one) if verdict == "-"].count("after: loads ready") == 16


def test_tokens_that_are_not_dropped_are_noticed_with_real_weights(tmp_path):
    """Under a weight file, too, a map that is shifted by five tokens is turned down, which lies beside no mirrored or neighbouring cell."""
    import timm

    torch.manual_seed(7)
    torch.save(timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict(), tmp_path / "whole.pt")

    def under(**parts):
        return Subject("broken", type("Broken", (Template,), parts | {"__module__": Template.__module__}), tmp_path / "whole.pt")

    assert contract.grid_is_upright(under()).startswith("cell")
    with pytest.raises(ContractError, match="patches: a change of one cell of the input changes another cell most"):
        contract.grid_is_upright(under(encode=shifted_by_five))


def test_a_weight_file_that_is_not_read_is_noticed(tmp_path):
    """A wrapper that leaves a file unopened, or takes what fits and no more, is told which tensors are random; one that reads it is not."""
    import timm

    torch.manual_seed(7)
    state = timm.create_model("vit_tiny_patch16_224", num_classes=0).state_dict()
    torch.save(state, tmp_path / "whole.pt")
    torch.save({name: value for name, value in state.items() if "blocks.11.mlp.fc2" not in name}, tmp_path / "part.pt")

    def unread(self, device):
        self.vit = timm.create_model("vit_tiny_patch16_224", num_classes=0).eval()

    def lenient(self, device):
        unread(self, device)
        self.vit.load_state_dict(torch.load(self.weights, weights_only=True), strict=False)

    def under(path, load=Template.load):
        return Subject("broken", type("Broken", (Template,), {"load": load, "__module__": Template.__module__}), path)

    assert contract.tensors_are_the_files(under(tmp_path / "whole.pt")) == f"{len(state)} tensors"
    assert contract.tensors_are_the_files(under(tmp_path / "whole.pt", lenient)) == f"{len(state)} tensors"
    for path, load, named in (("whole.pt", unread, "cls_token"), ("part.pt", lenient, "blocks.11.mlp.fc2.weight")):
        with pytest.raises(ContractError, match=rf"not from the weight file but random; got \['{named}"):
            contract.tensors_are_the_files(under(tmp_path / path, load))
    with pytest.raises(NotApplicableError, match="no weight file"):
        contract.tensors_are_the_files(under(None))
