# SPDX-License-Identifier: Apache-2.0
"""`python -m tools.report OUT_DIR`: one HTML page about a prediction, with a viewer, that opens from the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tqdm import tqdm

from custom_nets.report import write_report
from tools._arguments import names_in, number, whole
from tools._command import run


def main(
    out_dir: str,
    *,
    run: Any = None,
    labels: Any = None,
    modality: str | None = None,
    viewer_cases: int = 40,
    page_mb: float = 30.0,
) -> None:
    """Write OUT_DIR/report.html about what `python -m tools.predict` wrote to OUT_DIR.

    Pictures in three planes, volumes, agreement with reference label maps, notices, failed cases, checksums, and a
    viewer of the volumes, all in one file that needs no network.

    Args:
        out_dir: folder of the prediction.
        run: folder of a training whose learning curves are shown, or several with commas between them.
        labels: folder of reference label maps called as the cases (NAME.nii.gz, NAME_seg.nii.gz, ...), or several with
            commas between them; they go before those that the input of the prediction had.
        modality: the image that is shown, such as FLAIR; left out, the first of the bundle.
        viewer_cases: how many cases the viewer can open.
        page_mb: megabytes that the page may have; the viewer's volumes are reduced to fit.
    """
    written = write_report(
        str(out_dir),
        runs=[Path(one) for one in names_in(run)],
        labels=[Path(one) for one in names_in(labels)],
        modality=None if modality is None else str(modality),
        viewer_cases=whole("--viewer_cases", viewer_cases),
        page_mb=number("--page_mb", page_mb),
        progress=lambda records: tqdm(records, desc="report", unit="case"),
    )
    for problem in written.problems:
        print(f"{problem.case}: {problem.message}")
    print(f"{written.cases} cases in {written.path} ({written.size / 1e6:.1f} MB)")


if __name__ == "__main__":
    run(main)
