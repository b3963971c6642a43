# SPDX-License-Identifier: Apache-2.0
"""`fastapi-triton generate`: a picture from the command line, by a server that runs or one that is started for it."""
