"""BioViL: the ResNet-50 of vision-language pretraining on MIMIC-CXR (Boecking et al., 2022, arXiv 2204.09817)."""

import dataclasses

from .biovil_t import RESIZE, BioVilT

CROP = 480


class BioVil(BioVilT):
    card = dataclasses.replace(
        BioVilT.card, title="BioViL", paper_name="", image_size=CROP, field=CROP / RESIZE, citation="arXiv 2204.09817",
        weights="hf:microsoft/BiomedVLP-CXR-BERT-specialized", files=("biovil_image_resnet50_proj_size_128.pt",), revision="v1.1",
        digest="md5:02ce6ee460f72efd599295f440dbb453",  # hi-ml checks it after its own download
        how_to_get="python -m radbench.weights biovil downloads 103 MB from huggingface.co/microsoft/BiomedVLP-CXR-BERT-specialized "
        "at tag v1.1 (open, no account)",
        notes="input and taps as BioViL-T, on layer3's grid of 30 x 30; no row of the paper is compared with it: the paper's 'BioViL' "
        "has 27 M parameters and 196 tokens, which are BioViL-T's (BioViL: 225 tokens); not verified here: the keys and sha256 of "
        "the released file",
    )  # fmt: skip
