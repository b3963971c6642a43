# SPDX-License-Identifier: Apache-2.0
"""Parts of running another program: its log, why it ended, and ending what it leaves behind."""
