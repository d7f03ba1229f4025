#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the virtual environment in which MONAI Label runs: make_environment.sh FOLDER [PYTHON]
#
# Left to itself, pip takes versions of pydicom and PyTorch with which MONAI Label does not start. And PyTorch comes
# first: torchvision would bring its own, and sam2, which MONAI Label imports, would build against a third one.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=$1
python=${2:-python3}

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "error: MONAI Label's environment needs Python 3.11, $python is older: make label-environment PYTHON=python3.11" >&2
    exit 2
fi

install() {
    "$folder/bin/python" -m pip install --disable-pip-version-check --quiet --constraint "$here/constraints.txt" "$@"
}

"$python" -m venv --clear "$folder"
install pip wheel setuptools ninja
install torch
install torchvision
SAM2_BUILD_CUDA=0 install --no-build-isolation monailabel

# Beside a PyTorch of another kind (CPU, CUDA) than its own, torchvision cannot load its operators and is not imported.
if ! "$folder/bin/python" -c 'import torchvision' 2>/dev/null; then
    packages=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cp "$here/torchvision_operators.py" "$packages/"
    echo 'import torchvision_operators' >"$packages/torchvision_operators.pth"
fi
"$folder/bin/python" -W ignore -c 'import monailabel.main, torchvision'
