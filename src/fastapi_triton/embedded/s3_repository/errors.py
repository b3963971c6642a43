# SPDX-License-Identifier: Apache-2.0
"""The one error of this package."""


class S3ModelsError(Exception):
    """The models did not come; the text says why and what to do, in a sentence for a person."""
