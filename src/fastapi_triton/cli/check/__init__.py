# SPDX-License-Identifier: Apache-2.0
"""What will hurt: rules over model configs, Python models, an app's declarations and settings, and a running Triton."""
