# SPDX-License-Identifier: Apache-2.0
"""The one exception for input that the user can mend."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input from the user: a file, a data list, a checkpoint or an option.

    The message is all that the user sees (the command-line tools and the bundles print it without a traceback), so it
    names the file or option, the value that was found and what to do about it.
    """
