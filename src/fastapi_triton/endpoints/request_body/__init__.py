# SPDX-License-Identifier: Apache-2.0
"""Reading request bodies exactly: forms, and what JSON parsers accept or report badly."""
