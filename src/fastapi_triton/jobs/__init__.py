# SPDX-License-Identifier: Apache-2.0
"""Background jobs: requests that are kept until they are answered, whatever restarts meanwhile."""
