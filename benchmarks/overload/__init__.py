# SPDX-License-Identifier: Apache-2.0
"""What the frontend does when it is asked for more than the model can do, and when callers leave: see README.md."""
