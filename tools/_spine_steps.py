# SPDX-License-Identifier: Apache-2.0
"""Steps that a SpineParseNet pipeline alone has: stored logits, and one file of two networks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from custom_nets.files import file_digest, write_json
from custom_nets.fingerprints import copy_fingerprint
from custom_nets.spine.weights import join_stages
from tools._stages import Stage
from tools._steps import changed_input, digests_of
from tools.coarse_logits import predict

NAME = "spineparsenet"


@dataclass(frozen=True)
class Prediction:
    """Store the coarse logits of a section by the network that was trained on the same list.

    Attributes:
        title: for people.
        dataset_dir: folder of the data set.
        datalist: that the network was trained with.
        section: whose cases.
        stage: the network's training.
        folder: of the logits.
    """

    title: str
    dataset_dir: Path
    datalist: str
    section: str
    stage: Stage
    folder: Path

    def run(self) -> None:
        """Compute those logits that are missing, or are of another checkpoint."""
        checkpoint = self.stage.ckpt_dir / "model.pt"
        place = (self.dataset_dir, self.datalist, self.section, checkpoint, self.folder)
        written, kept = predict(*place, self.stage.configs, self.stage.options)
        print(f"{self.folder}: the coarse logits of {written} cases were written, those of {kept} were there")


@dataclass(frozen=True)
class Assembly:
    """Put both networks' weights into one file, as `custom_nets.SpineParseNet` has them.

    Attributes:
        title: for people.
        coarse: weights of the first.
        refinement: weights of the second.
        model: the file.
    """

    title: str
    coarse: Path
    refinement: Path
    model: Path

    def run(self) -> None:
        """Write the file, unless it is there from the same parts."""
        copy_fingerprint(self.coarse, self.model, self.refinement)
        note = self.model.with_suffix(".json")
        digests = digests_of({"coarse": self.coarse, "refinement": self.refinement})
        if self.model.is_file() and changed_input(note, {**digests, "model": file_digest(self.model)}) is None:
            print(f"{self.model} is there")
            return
        join_stages(self.coarse, self.refinement, self.model)
        write_json(note, {**digests, "model": file_digest(self.model)})
        print(f"wrote {self.model}")
