"""A grammar of findings texts that are true of their study."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .facts import AORTA, CARDIOMEGALY, EFFUSION, FIBROSIS, OPACITY, THICKENING, Acquisition, Finding, Patient, Study

REPORT_WORDS = (25, 60)
REPORT_SENTENCES = 6


def report(patient: Patient, study: Study) -> str:
    """Findings text of a study: every positive label is stated once, and negatives are only ever denied."""
    rng = np.random.default_rng([patient.report_seed, study.texture_seed])

    def pick(*options: str) -> str:
        return options[int(rng.integers(len(options)))]

    positive = [_positive_sentence(label, finding, pick) for label, finding in study.findings.items()]
    positive = [positive[i] for i in rng.permutation(len(positive))]
    normal = _normal_sentences(study, pick, rng)
    devices = _device_sentences(study.images[0], pick)[: max(0, REPORT_SENTENCES - 1 - len(positive))]

    chosen = list(positive)
    extra = [*devices, *normal]
    # Long reports and short ones both occur, but none is so short that only its normal phrases could be scored.
    wanted = int(rng.integers(REPORT_WORDS[0] + 2, 46))
    kept: list[str] = []
    for sentence in extra:
        words = _words([*chosen, *kept])
        full = len(chosen) + len(kept) >= REPORT_SENTENCES or words + _words([sentence]) > REPORT_WORDS[1]
        if full or (words >= wanted and len(chosen) + len(kept) >= 2):
            break
        kept.append(sentence)
    order = rng.random()
    if order < 0.5:  # what matters first
        sentences = [*chosen, *kept]
    elif order < 0.75:
        sentences = [*kept[:1], *chosen, *kept[1:]]
    else:
        sentences = [*chosen, *kept]
        sentences = [sentences[i] for i in rng.permutation(len(sentences))]
    return " ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)


def _words(sentences: list[str]) -> int:
    return sum(len(sentence.split()) for sentence in sentences)


def _degree(severity: float, low: str, middle: str, high: str) -> str:
    return low if severity < 0.38 else middle if severity < 0.72 else high


def _positive_sentence(label: str, finding: Finding, pick: Callable[..., str]) -> str:
    severity = finding.severity
    size = _degree(severity, pick("small", "tiny", "trace"), "moderate", pick("large", "massive"))
    extent = _degree(severity, pick("mild", "subtle", "faint"), "moderate", pick("dense", "extensive", "severe"))
    amount = _degree(severity, pick("mild", "minimal", "slight"), "moderate", pick("marked", "severe"))
    adverb = _degree(severity, pick("mildly", "slightly"), "moderately", pick("markedly", "severely"))
    sides = [side for side, _ in finding.places]
    both = len(set(sides)) == 2
    if label == OPACITY:
        (side, zone), *rest = finding.places
        zone = pick("mid", "middle") if zone == "mid" else zone
        if not rest:
            where = f"{side} {zone} {pick('zone', 'lung zone')}"
        elif rest[0][0] == side:
            where = f"{side} {zone} and {rest[0][1]} zones"
        else:
            where = f"{side} {zone} zone and the {rest[0][0]} {rest[0][1]} zone"
        thing = pick("patchy opacity", "airspace opacity", "consolidation", "patchy consolidation", "hazy opacity")
        return pick(
            f"there is {extent} {thing} in the {where}.",
            f"{extent} {thing} is seen in the {where}.",
            f"{extent} {thing} projects over the {where}.",
            f"{thing} in the {where}, {extent} in extent.",
        )
    if label == CARDIOMEGALY:
        return pick(
            f"{amount} cardiomegaly.",
            f"the heart is {adverb} enlarged.",
            f"the cardiac silhouette is {adverb} enlarged.",
            f"{amount} cardiomegaly is present.",
            f"there is {amount} enlargement of the heart.",
        )
    if label == THICKENING:
        level = {"upper": "apical", "mid": "lateral", "lower": "basal"}[finding.places[0][1]]
        if both:
            return pick(
                f"{amount} bilateral {level} pleural thickening.",
                f"there is {amount} {level} pleural thickening on both sides.",
            )
        return pick(
            f"{amount} {level} pleural thickening on the {sides[0]}.",
            f"there is {amount} {sides[0]} {level} pleural thickening.",
            f"{sides[0]} {level} pleural thickening, {amount} in degree.",
        )
    if label == AORTA:
        return pick(
            f"the aorta is {adverb} enlarged.",
            f"the thoracic aorta is {adverb} dilated and tortuous.",
            f"{amount} enlargement of the aortic knob.",
            f"the aortic knob is prominent with {amount} aortic dilatation.",
        )
    if label == FIBROSIS:
        return pick(
            f"{amount} basal and peripheral reticular markings consistent with fibrosis.",
            f"{amount} pulmonary fibrosis at both bases.",
            f"there is {amount} reticular change at the bases in keeping with pulmonary fibrosis.",
            f"coarse reticular markings in the lower zones with low volumes, suggesting {amount} fibrosis.",
        )
    if both:
        return pick(
            f"{size} bilateral pleural effusions.",
            f"there are {size} pleural effusions on both sides.",
            f"{size} effusions blunt both costophrenic angles.",
        )
    return pick(
        f"{size} {sides[0]} pleural effusion.",
        f"there is a {size} pleural effusion on the {sides[0]}.",
        f"a {size} {sides[0]} pleural effusion is present.",
        f"the {sides[0]} costophrenic angle is blunted by a {size} effusion.",
    )


def _normal_sentences(study: Study, pick: Callable[..., str], rng: np.random.Generator) -> list[str]:
    """Denials and normal statements that hold for this study, in random order, those about the labels first."""
    findings = study.findings
    lungs_clear = not {OPACITY, FIBROSIS, EFFUSION, THICKENING} & set(findings)
    denials = {
        OPACITY: pick("focal consolidation", "airspace opacity", "focal opacity"),
        THICKENING: "pleural thickening",
        FIBROSIS: pick("fibrosis", "reticular change"),
        EFFUSION: "pleural effusion",
    }
    absent = [text for label, text in denials.items() if label not in findings] + ["pneumothorax"]
    absent = [absent[i] for i in rng.permutation(len(absent))]
    count = int(rng.integers(1, 5))
    groups = [absent[:count], absent[count : count + 2]]
    sentences = []
    for group in groups:
        if not group:
            continue
        listed = group[0] if len(group) == 1 else ", ".join(group[:-1]) + " or " + group[-1]
        sentences.append(pick(f"no {listed}.", f"there is no {listed}.", f"no evidence of {listed}.", f"{listed} is not seen."))
    heart_normal, aorta_normal = CARDIOMEGALY not in findings, AORTA not in findings
    if heart_normal and aorta_normal and rng.random() < 0.4:
        sentences.append(pick("the cardiomediastinal silhouette is normal.", "heart and aorta are normal in size."))
    else:
        if heart_normal:
            sentences.append(
                pick(
                    "heart size is normal.",
                    "the heart is normal in size.",
                    "the heart is not enlarged.",
                    "no cardiomegaly.",
                    "cardiac size is within normal limits.",
                )
            )
        if aorta_normal:
            sentences.append(pick("the aorta is normal.", "the aortic contour is normal.", "the aorta is not enlarged."))
    if lungs_clear:
        sentences.append(pick("the lungs are clear.", "both lungs are clear and well expanded.", "lungs and pleural spaces are clear."))
    elif FIBROSIS not in findings:
        touched = {side for finding in findings.values() for side, _ in finding.places}
        if len(touched) == 1:
            other = "right" if touched == {"left"} else "left"
            sentences.append(pick(f"the {other} lung is clear.", f"the {other} hemithorax is unremarkable."))
    sentences = [sentences[i] for i in rng.permutation(len(sentences))]
    plain = [
        pick(
            "the bones are intact.",
            "no acute bony abnormality.",
            "osseous structures are unremarkable.",
            "age related degenerative change of the thoracic spine.",
            "no displaced rib fracture is identified.",
        ),
        pick(
            "the trachea is midline.",
            "the trachea is central.",
            "the mediastinum is not shifted and the hila are normal.",
            "the film is taken in good inspiration with satisfactory exposure.",
        ),
        pick("the soft tissues are unremarkable.", "visible upper abdomen is unremarkable.", "both hila are normal in appearance."),
    ]
    plain = [plain[i] for i in rng.permutation(len(plain))]
    return [*sentences, *plain]


def _device_sentences(acquisition: Acquisition, pick: Callable[..., str]) -> list[str]:
    texts = {
        "line": pick("a central venous line is in place.", "central line tip projects over the superior vena cava."),
        "tube": pick("endotracheal and gastric tubes are in place.", "the endotracheal tube is in good position."),
        "pacemaker": pick("a left chest pacemaker is noted.", "pacemaker with a single lead."),
        "ecg": pick("monitoring leads overlie the chest.", "external wires and electrodes are noted."),
    }
    sentences = [text for device, text in texts.items() if device in acquisition.devices]
    if acquisition.view == "AP":
        sentences.append(pick("portable AP view.", "single frontal AP view of the chest."))
    return sentences
