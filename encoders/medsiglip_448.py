"""MedSigLIP at 448 pixels (Sellergren et al., 2025, arXiv 2507.05201): SigLIP So400m/14 continued on medical images and text."""

import dataclasses

from radbench.encoder import Option

from .siglip2_so400m_384 import Siglip2


class MedSiglip(Siglip2):
    card = dataclasses.replace(
        Siglip2.card, title="MedSigLIP@448", image_size=448, params=428_565_440, gated=True,
        weights="hf:google/medsiglip-448",
        revision="9cea28a1a1195f665105faa6e8544c112fd960a4",  # the commit that many public projects pin
        how_to_get="accept the HAI-DEF terms at huggingface.co/google/medsiglip-448, `hf auth login`, then "
        "python -m radbench.weights medsiglip_448 downloads 3.5 GB",
        pretrained_on=("webli", "mimic_cxr", "unknown"), licence="HAI-DEF terms of use", citation="arXiv 2507.05201",
        notes="32 x 32 patches; taps are block outputs before the final norm; the release's TensorFlow recipe resizes without "
        "antialias, its transformers processor with; seen images: MIMIC-CXR and undisclosed licensed data, so other overlaps "
        "cannot be ruled out; not verified here: keys and sha256 of the released file, the list of training sets",
    )  # fmt: skip
    options = {
        "pooling": Siglip2.options["pooling"],
        "interpolation": Option("bilinear", ("bilinear", "bicubic"), why="the release's processor is bilinear; SigLIP's is bicubic"),
    }
