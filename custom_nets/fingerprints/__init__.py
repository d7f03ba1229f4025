# SPDX-License-Identifier: Apache-2.0
"""What a model was trained on, kept beside its checkpoint, and cases compared with it before they are segmented."""

from custom_nets.fingerprints.content import (
    Fingerprint,
    Modality,
    copy_fingerprint,
    fingerprint_path,
    read_fingerprint,
    write_fingerprint,
)
from custom_nets.fingerprints.ensembles import common_fingerprint
from custom_nets.fingerprints.findings import Finding
from custom_nets.fingerprints.guard import unusual

__all__ = [
    "Finding",
    "Fingerprint",
    "Modality",
    "common_fingerprint",
    "copy_fingerprint",
    "fingerprint_path",
    "read_fingerprint",
    "unusual",
    "write_fingerprint",
]
