# SPDX-License-Identifier: Apache-2.0
"""Whole volumes through a 2.5D network: raw scan in, label map on the scan's own grid out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.utils import convert_to_dst_type
from torch import Tensor
from tqdm import tqdm

from custom_nets.checkpoints import bare
from custom_nets.errors import InputError
from custom_nets.inferers import ScoreSink, members_of
from custom_nets.slices.intensity import normalise, scale_slices
from custom_nets.slices.planes import axis_codes, check_plane, turned
from custom_nets.slices.preparation import SlicePreparation
from custom_nets.slices.resize import resize_nearest
from custom_nets.slices.stack import sliding_logits, stack_logits

#: How slices of another size than the network's are seen.
WINDOWS = ("resized", "sliding")
#: What is brought back to the size and orientation of the scan.
RESIZE_BACK = ("labels", "probabilities", "none")


class SliceStackInferer(Inferer):
    """Label every slice of a volume from itself and its neighbours; each slice is encoded once.

    A volume is turned so that its slices come first, prepared slice by slice as in training, labelled ``batch_size``
    slices at a time, and turned back. Beyond scan and label map, memory does not grow with the number of slices.

    Args:
        roi_size: rows and columns of the network's input.
        num_slices: S, of a window, odd; 1 is 2D. As published the end slices are repeated beyond the ends.
        preparation: of slices; None takes the published one. Its own size counts for nothing here.
        plane: of the slices, see :func:`~custom_nets.slices.planes.axis_codes`.
        windows: "resized", as published: whole slices, resized to ``roi_size``; "sliding": windows of that size over
            the slices as they are, blended by a Gaussian, for a network trained on such windows.
        overlap: of sliding windows, a share of ``roi_size``.
        batch_size: slices labelled at a time.
        resize_back: "labels", as published, by nearest neighbour; "probabilities", bilinearly, before the largest
            wins: smoother outlines; "none": nothing, which gives slices first at the network's size, as a validation
            needs whose reference was prepared likewise.
        tta: average the probabilities of each slice and of its mirror image; paired labels change sides. It needs axial
            or coronal slices, whose columns run from right to left.
        pairs: labels (left, right) of the structures with two sides.
        progress: show a bar over the slices.

    A network with ``members``, an `Ensemble`, is averaged over them.

    Attributes:
        scores_to: called with the probabilities of the next slices as they are found; None as long as nobody wants
            them.

    Raises:
        InputError: for an option out of range; when called, for a mirror image of sagittal slices.
    """

    def __init__(
        self,
        roi_size: Sequence[int],
        num_slices: int = 3,
        preparation: SlicePreparation | None = None,
        plane: str = "auto",
        windows: str = "resized",
        overlap: float = 0.25,
        batch_size: int = 4,
        resize_back: str = "labels",
        tta: bool = False,
        pairs: Sequence[Sequence[int]] = (),
        progress: bool = False,
    ) -> None:
        super().__init__()
        check_plane(plane)
        for option, value, choices in (("windows", windows, WINDOWS), ("resize_back", resize_back, RESIZE_BACK)):
            if value not in choices:
                raise InputError(f"{option} is {value!r}: choose one of {', '.join(choices)}")
        if num_slices < 1 or num_slices % 2 == 0:
            raise InputError(f"num_slices is {num_slices}: give an odd number, such as 3")
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}: give at least 1 slice")
        self.roi_size = [int(length) for length in roi_size]
        self.num_slices = num_slices
        self.preparation = preparation or SlicePreparation()
        self.plane = plane
        self.windows = windows
        self.overlap = overlap
        self.batch_size = batch_size
        self.resize_back = resize_back
        self.tta = tta
        self.pairs = pairs
        self.progress = progress
        self.scores_to: ScoreSink | None = None

    def __call__(self, inputs: Tensor, network: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Label volumes.

        Args:
            inputs: N x C x X x Y x Z, raw intensities; without metadata the axes count as R, A, S with cubic voxels.
            network: S2aNet, or any that takes N x (S · C) x H x W to logits N x K x H x W; in eval mode.
            args: not used.
            kwargs: not used.

        Returns:
            Label maps N x 1 x X x Y x Z, uint8 (int16 for more than 256 classes), metadata kept; with ``resize_back``
            "none" N x 1 x slices x rows x columns of the network.
        """
        networks = [bare(member) for member in members_of(network)]
        volumes = [self._labelled(volume, networks) for volume in inputs]
        labels = torch.stack([volume.as_tensor() for volume in volumes])
        result: Any = convert_to_dst_type(labels, inputs, dtype=labels.dtype)[0]
        if self.resize_back == "none" and isinstance(inputs, MetaTensor):
            affines = torch.stack([volume.affine for volume in volumes])
            result.affine = affines if inputs.affine.ndim == 3 else affines[0]
        return result

    def _labelled(self, volume: Tensor, networks: Sequence[Any]) -> MetaTensor:
        """C x X x Y x Z -> 1 x X x Y x Z, or 1 x D x h x w."""
        scan = volume if isinstance(volume, MetaTensor) else MetaTensor(volume)
        codes = axis_codes(scan.affine, self.plane, str(scan.meta.get("filename_or_obj", "the volume")))
        if self.tta and codes[2] != "L":
            raise InputError("tta mirrors left and right, which slices of the sagittal plane do not show: --tta False")
        slices = turned(scan, codes)
        to_scan = torch.linalg.inv(scan.affine) @ slices.affine
        label = self._label_slices(slices.as_tensor(), networks, to_scan)
        if self.resize_back == "none":
            return MetaTensor(label, affine=self.preparation.affine(slices.affine, slices.shape[2:], label.shape[2:]))
        # back by where the voxels lie in the scan's array: which axis is which is never in doubt, however oblique it is
        return turned(MetaTensor(label, affine=to_scan), "RAS")

    def _label_slices(self, scan: Tensor, networks: Sequence[Any], to_scan: Tensor) -> Tensor:
        """C x D x H x W -> 1 x D x H x W, or 1 x D x h x w."""
        count, size = scan.shape[1], scan.shape[2:]
        label: Tensor | None = None
        with tqdm(total=count, desc="slices", unit="slice", leave=False, disable=not self.progress) as bar:
            done = 0
            for scores, members in self._scores(scan, networks):
                self._hand_on(members, scan.shape[1:], to_scan)
                found = self._winners(scores, size, averaged=len(networks) > 1 or self.tta)
                if label is None:
                    label = found.new_empty(count, *found.shape[1:])
                label[done : done + len(found)] = found
                done += len(found)
                bar.update(len(found))
                del scores, members  # before the next are computed
        assert label is not None
        return label[None]

    def _scores(self, scan: Tensor, networks: Sequence[Any]) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """For a batch of slices after the other what decides, and the probabilities of each member.

        What decides are the logits of a single network, else the mean probabilities.
        """
        views = [self._logits(scan, network) for network in networks]
        if self.tta:
            views += [self._logits(scan.flip(-1), network) for network in networks]
        for logits in zip(*views, strict=True):
            if len(logits) == 1:
                wanted = self.scores_to is not None
                yield logits[0], [torch.softmax(logits[0].float(), dim=1)] if wanted else []
                del logits
                continue
            members = [torch.softmax(one.float(), dim=1) for one in logits]
            for place in range(len(networks), len(members)):
                members[place] = self._mirrored_back(members[place])
            total = members[0].clone()
            for one in members[1:]:
                total.add_(one)
            yield total.div_(len(members)), members

    def _mirrored_back(self, probabilities: Tensor) -> Tensor:
        """The mirror image's probabilities on the slice's own side, paired labels exchanged."""
        swapped = list(range(probabilities.shape[1]))
        for left, right in self.pairs:
            swapped[left], swapped[right] = right, left
        return probabilities.flip(-1)[:, swapped]

    def _hand_on(self, members: Sequence[Tensor], shape: Sequence[int], to_scan: Tensor) -> None:
        """Hand on the members' probabilities, B x K x h x w each, at the size of the scan's slices."""
        if self.scores_to is None:
            return
        sized = [F.interpolate(one, size=tuple(shape[1:]), mode="bilinear") for one in members]
        self.scores_to([one.transpose(0, 1) for one in sized], shape, to_scan)

    def _logits(self, scan: Tensor, network: Any) -> Iterator[Tensor]:
        def prepared(first: int, last: int) -> Tensor:
            slices = scale_slices(scan[:, first:last], self.preparation.intensity).transpose(0, 1)
            if self.windows == "resized":
                slices = resize_nearest(slices, self.roi_size, self.preparation.index_rule)
            return normalise(slices, self.preparation.mean, self.preparation.std)

        sizes = (scan.shape[1], self.num_slices, self.batch_size)
        if self.windows == "resized":
            return stack_logits(network, prepared, *sizes)
        black = (0 - self.preparation.mean) / self.preparation.std
        return sliding_logits(network, prepared, *sizes, self.roi_size, self.overlap, black)

    def _winners(self, scores: Tensor, size: Sequence[int], averaged: bool) -> Tensor:
        """B x K x h x w -> B x H x W."""
        dtype = torch.uint8 if scores.shape[1] <= 256 else torch.int16
        if self.resize_back != "probabilities" or scores.shape[2:] == size:
            label = scores.argmax(dim=1).to(dtype)
            return label if self.resize_back == "none" else resize_nearest(label, size, self.preparation.index_rule)
        probabilities = scores if averaged else torch.softmax(scores.float(), dim=1)
        wins = [F.interpolate(one[None], size=tuple(size), mode="bilinear").argmax(dim=1) for one in probabilities]
        return torch.cat(wins).to(dtype)
