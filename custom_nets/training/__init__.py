# SPDX-License-Identifier: Apache-2.0
"""What a training run needs around MONAI's trainer: reproducible data, exact resume, records, pictures, progress."""
